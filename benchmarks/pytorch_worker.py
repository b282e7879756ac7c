"""Train a network in PyTorch, or let it answer, on random images in a process of its own.

    python pytorch_worker.py train NETWORK --batch 64 --form compiled --layout channels_last
    python pytorch_worker.py infer NETWORK --batch 1 64 --form traced --weights FILE.npz

Knows MXNet as little as PyTorch's NumPy does. Beside what :mod:`answering` says it answers
``{"do": "double"}``: the twin in double precision, from the ``weights`` to ``logits`` in
inference, and the ``loss`` in training and its gradients by our parameters' names.

The forms of inference: ``eager``; ``compiled`` by torch.compile, weights frozen; ``compiled-cpp``
so too, called from C++ instead of Python; ``traced`` by torch.jit, frozen, with oneDNN Graph's
fusion. Of training: ``eager`` and ``compiled``, with the fused SGD. What is ``channels_last``
within arrives NCHW, as from a data loader.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from answering import (  # noqa: E402
    batch_of,
    redirected,
    serve,
    twin_name,
    weights_from,
)
from pytorch_networks import Network  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dmr_gluon.errors import DMRError  # noqa: E402
from dmr_gluon.models.names import get_spec  # noqa: E402
from dmr_gluon.paper.recipes import CIFAR, IMAGENET  # noqa: E402
from dmr_gluon.system.machine import usable_cores  # noqa: E402

FORMS = ("eager", "compiled", "compiled-cpp", "traced")
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def load(net, weights):
    """Our weights into a twin; all of them, and nothing left over."""
    given = {twin_name(name): torch.from_numpy(array) for name, array in weights.items()}
    missing, unexpected = net.load_state_dict(given, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise DMRError(f"parameters of one side only: {', '.join([*missing, *unexpected][:3])}")


class Twin:
    """A network in one form.

    Parameters
    ----------
    options : argparse.Namespace
        The command line's.
    """

    def __init__(self, options):
        self.options = options
        self.spec = get_spec(options.network)
        self.layout = LAYOUTS[options.layout]
        self.net = Network(self.spec).to(memory_format=self.layout)
        self.net.train(options.kind == "train")
        self.weights = weights_from(options.weights) if options.weights else None
        if self.weights:
            load(self.net, self.weights)
        self.called = self.net
        if options.kind == "train":
            recipe = CIFAR if self.spec.stem == "cifar" else IMAGENET
            self.optimizer = torch.optim.SGD(
                self.net.parameters(),
                lr=1e-4,  # as ours.py
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                nesterov=recipe.nesterov,
                fused=True,
            )
        if options.form.startswith("compiled"):
            from torch._inductor import config

            config.freezing = options.kind == "infer"
            config.cpp_wrapper = options.form == "compiled-cpp"
            self.called = torch.compile(self.net, dynamic=False)
        elif options.form == "traced":
            self.called = self._traced()

    def _traced(self):
        torch.jit.enable_onednn_fusion(True)
        images, _ = batch_of(self.options.network, self.options.batch[-1])
        with torch.no_grad():
            example = torch.from_numpy(images).contiguous(memory_format=self.layout)
            return torch.jit.freeze(torch.jit.trace(self.net, example))

    def precision(self):
        if self.options.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16)

    def train(self, images, labels):
        """One step, from images in memory to the loss as a number."""
        images = images.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision():
            loss = F.cross_entropy(self.called(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self, images, labels=None):
        """From images in memory to logits in memory."""
        mode = torch.no_grad if self.options.form == "traced" else torch.inference_mode
        with mode(), self.precision():
            return self.called(images.contiguous(memory_format=self.layout)).float().numpy()

    def logits(self, images):
        return {"logits": self.infer(torch.from_numpy(images))}

    def step(self, images, labels):
        load(self.net, self.weights)
        return {"loss": self.train(torch.from_numpy(images), torch.from_numpy(labels))}

    def double(self, images, labels):
        """The twin as it is written, in double precision."""
        net = Network(self.spec).double()
        load(net, self.weights)
        images, labels = torch.from_numpy(images).double(), torch.from_numpy(labels)
        with torch.inference_mode():
            found = {"logits": net.eval()(images).numpy()}
        loss = F.cross_entropy(net.train()(images), labels)
        loss.backward()
        found["loss"] = loss.item()
        gradients = {name: one.grad.numpy() for name, one in net.named_parameters()}
        for name in self.weights:
            if twin_name(name) in gradients:
                found[name] = gradients.pop(twin_name(name))
        return found


def main():
    if sys.argv[1:] == ["versions"]:
        versions = {"PyTorch": torch.__version__, "NumPy": np.__version__}
        print(json.dumps({"Python": platform.python_version(), **versions}))
        return
    answers = redirected()
    options = _parser().parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 0)) or usable_cores())
    torch.manual_seed(0)
    twin = Twin(options)

    def batch(count):
        images, labels = batch_of(options.network, count)
        return torch.from_numpy(images), torch.from_numpy(labels)

    run = twin.train if options.kind == "train" else twin.infer
    others = {"logits": twin.logits, "step": twin.step, "double": twin.double}
    serve(answers, run, batch, options.batch, others)


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "infer"))
    parser.add_argument("network", help="a name, such as cifar_dmrnet56")
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--form", choices=FORMS, default="eager")
    parser.add_argument("--layout", choices=LAYOUTS, default="nchw")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--weights", metavar="FILE.npz", help="our parameters by name")
    return parser


if __name__ == "__main__":
    try:
        main()
    except DMRError as error:
        sys.exit(f"error: {error}")
