"""The empirical prior: streaming moments, their estimation and the file they are kept in."""
