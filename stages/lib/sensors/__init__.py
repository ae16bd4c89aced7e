"""Windows of wearable sensors: prepared sets, folds for cross-validation, normalisation by the training fold."""
