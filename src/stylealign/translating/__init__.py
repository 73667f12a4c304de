"""What a person imports: `load` and `Detector`, `StyleTranslator`, `StyleAugmentation`."""
