"""A trained model's answers: the classifier, engines, TTA, OOD score, saliency, few-shot."""
