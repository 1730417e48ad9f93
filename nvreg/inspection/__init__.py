"""What a setting does to every layer and head of a model, shown for `nvreg inspect`."""
