"""Inference: labels, scores, unknown or not, heatmaps and new classes from a trained model.

classifier      `FruitClassifier`: images in, predictions out; `Prediction`, `Explanation`
sources         the images that a user names: files, folders, patterns
engines         what runs the model: PyTorch, ONNX Runtime, OpenVINO
tta             test-time augmentation: the views whose logits are averaged
ood             out-of-distribution score and threshold: what is reported as unknown
saliency        heatmaps of what spoke for a class
few_shot        one more class from a few photos
batch_predict   labels for any number of files, as a table
journal         by which an interrupted batch prediction resumes
table_writer    rows as CSV, JSON lines or Parquet
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
