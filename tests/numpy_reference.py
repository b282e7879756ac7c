"""The blocks and networks a second time, in plain NumPy, from the formulas alone.

Written from the paper's equations, in float64, by parameter names; it shares nothing with
dmr_gluon. With ``training=True`` BN uses the statistics of the batch.
"""

import numpy as np

EPSILON = 2e-5


class Reference:
    """Evaluates formulas with a dictionary of parameters by name."""

    def __init__(self, parameters, training=False):
        self.parameters = {name: np.asarray(p, np.float64) for name, p in parameters.items()}
        self.training = training

    def conv(self, x, name, stride=1):
        weight = self.parameters[name + "_weight"]
        kernel = weight.shape[2]
        pad = kernel // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], weight)

    def bn(self, x, name):
        p = {k: self.parameters[f"{name}_{k}"].reshape(1, -1, 1, 1) for k in ("gamma", "beta")}
        if self.training:
            mean = x.mean(axis=(0, 2, 3), keepdims=True)
            variance = x.var(axis=(0, 2, 3), keepdims=True)
        else:
            mean = self.parameters[name + "_running_mean"].reshape(1, -1, 1, 1)
            variance = self.parameters[name + "_running_var"].reshape(1, -1, 1, 1)
        return (x - mean) / np.sqrt(variance + EPSILON) * p["gamma"] + p["beta"]

    @staticmethod
    def relu(x):
        return np.maximum(x, 0)

    def branch(self, x, name, stride, bottleneck=False, layers=2):
        """H: Conv-BN-ReLU-Conv-BN, or the bottleneck with the stride in its 3x3 convolution."""
        strides = (1, stride, 1) if bottleneck else (stride, *[1] * (layers - 1))
        for i, layer_stride in enumerate(strides, start=1):
            x = self.relu(x) if i > 1 else x
            x = self.bn(self.conv(x, f"{name}_conv{i}", layer_stride), f"{name}_bn{i}")
        return x

    def skip(self, x, name, stride):
        """s: the identity, or a 1x1 convolution and BN where there is one of that name."""
        if name + "_conv_weight" not in self.parameters:
            return x
        return self.bn(self.conv(x, name + "_conv", stride), name + "_bn")

    def plain(self, x, name, stride=1, bottleneck=False, layers=2):
        """y = ReLU(H(x))."""
        return self.relu(self.branch(x, name + "_branch1", stride, bottleneck, layers))

    def residual(self, x, name, stride=1, bottleneck=False, layers=2):
        """y = ReLU(H(x) + s(x))."""
        h = self.branch(x, name + "_branch1", stride, bottleneck, layers)
        return self.relu(h + self.skip(x, name + "_proj1", stride))

    def inception_like(self, x, name, stride=1, bottleneck=False, branches=2):
        """y = ReLU(H1(x) + ... + HK(x) + s(x))."""
        hs = [
            self.branch(x, f"{name}_branch{k}", stride, bottleneck) for k in range(1, branches + 1)
        ]
        return self.relu(sum(hs) + self.skip(x, name + "_proj1", stride))

    def merge_and_run(self, xs, name, stride=1, bottleneck=False, mapping="mean", last=False):
        """y = ReLU(H(x) + M s(x)) in matrix form; the last block: ReLU(sum of H + mean of s)."""
        count = len(xs)
        hs = [self.branch(x, f"{name}_branch{k}", stride, bottleneck) for k, x in enumerate(xs, 1)]
        skips = [self.skip(x, f"{name}_proj{k}", stride) for k, x in enumerate(xs, 1)]
        if last:
            return self.relu(sum(hs) + sum(skips) / count)
        matrix = np.eye(count) if mapping == "identity" else np.full((count, count), 1 / count)
        return [
            self.relu(h + sum(m * skip for m, skip in zip(row, skips)))
            for h, row in zip(hs, matrix)
        ]

    def cifar_network(self, x, family, blocks_per_stage, branches=2, mapping="mean"):
        x = self.relu(self.bn(self.conv(x, "stem_conv"), "stem_bn"))
        if family == "dmrnet":
            x = [x] * branches
        for stage in (1, 2, 3):
            for block in range(1, blocks_per_stage + 1):
                name = f"stage{stage}_block{block}"
                stride = 2 if stage > 1 and block == 1 else 1
                if family == "resnet":
                    x = self.residual(x, name, stride)
                elif family == "dilnet":
                    x = self.inception_like(x, name, stride, branches=branches)
                else:
                    last = stage == 3 and block == blocks_per_stage
                    x = self.merge_and_run(x, name, stride, mapping=mapping, last=last)
        features = x.mean(axis=(2, 3))
        return features @ self.parameters["head_fc_weight"].T + self.parameters["head_fc_bias"]
