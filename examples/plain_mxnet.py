"""Evaluate an exported network with MXNet and NumPy alone, nothing of dmr_gluon.

    python examples/plain_mxnet.py demo/export demo/digits

To be copied into projects that deploy such networks. Prints the test error; with --log it
must be the one that training logged last, with --at-most no larger than that.
"""

import argparse
import json
import os
import sys

import numpy as np

# MXNet 1.9.1 needs these names, which NumPy 1.24 removed (only Python 3.12 needs this).
for name, value in {"bool": bool, "int": int, "float": float, "object": object}.items():
    if name not in vars(np):
        setattr(np, name, value)

import mxnet as mx  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="what `dmr export` wrote")
    parser.add_argument("data", help="a prepared data set of whole images")
    parser.add_argument("--log", help="a run's log.jsonl, to compare with")
    parser.add_argument("--at-most", type=float, help="largest error that is accepted, percent")
    options = parser.parse_args()

    with open(os.path.join(options.bundle, "bundle.json")) as file:
        bundle = json.load(file)
    expects = bundle["input"]
    if expects["values"] != "normalised" or expects["mean"] is None:
        sys.exit(
            f"error: {options.bundle}: this is for bundles without --preprocess, of networks of "
            f"which bundle.json knows the mean; export it again"
        )
    with open(os.path.join(options.data, "manifest.json")) as file:
        count = json.load(file)["splits"]["test"]["count"]

    error = 100 * count_wrong(options.bundle, expects, options.data, count) / count
    print(f"plain MXNet {mx.__version__}: test error {error:.2f}% of {count} images")
    if options.log:
        with open(options.log) as file:
            logged = [event for event in map(json.loads, file) if event["event"] == "epoch"]
        if logged[-1]["test_error"] != error:
            sys.exit(f"error: training logged {logged[-1]['test_error']}, this is {error}")
        print("the same as training logged")
    if options.at_most is not None and error > options.at_most:
        sys.exit(f"error: {error:.2f}% is more than {options.at_most}%")


def count_wrong(bundle, expects, data, count):
    symbol, arguments, auxiliary = mx.model.load_checkpoint(os.path.join(bundle, "model"), 0)
    # Module ignores what is surplus.
    shapes, _, more = symbol.infer_shape(data=(1, *expects["shape"]))
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    wanted = {*zip(names, [*shapes, *more])} - {("data", (1, *expects["shape"]))}
    found = {(name, one.shape) for part in (arguments, auxiliary) for name, one in part.items()}
    if found != wanted:
        name = min(found ^ wanted)[0]
        sys.exit(f"error: {bundle} holds another network's parameters: {name}; export it again")
    batch_size = 60
    module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
    module.bind([("data", (batch_size, *expects["shape"]))], for_training=False)
    module.set_params(arguments, auxiliary)
    images = mx.io.ImageRecordIter(
        path_imgrec=os.path.join(data, "test.rec"),
        data_shape=expects["shape"],
        batch_size=batch_size,
        round_batch=False,
        **{f"mean_{c}": value for c, value in zip("rgb", expects["mean"])},
        **{f"std_{c}": value for c, value in zip("rgb", expects["std"])},
    )
    wrong = seen = 0
    while seen < count:
        batch = next(images)
        # The last batch is filled up with old images: keep those that are left.
        keep = min(batch_size, count - seen)
        module.forward(batch, is_train=False)
        answers = module.get_outputs()[0].asnumpy().argmax(axis=1)[:keep]
        wrong += int((answers != batch.label[0].asnumpy()[:keep]).sum())
        seen += keep
    return wrong


if __name__ == "__main__":
    main()
