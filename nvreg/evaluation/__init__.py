"""One score without a sweep: a model, or a converted one, on data sets, for `nvreg evaluate`."""
