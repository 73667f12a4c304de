"""What a person imports: `load` and `Detector`, `StyleTranslator`, `StyleAugmentation`, `training_batches`,
`evaluate_landmarks`."""
