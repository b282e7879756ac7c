"""Programs without imports from this package; predict_onnx is copied into bundles."""
