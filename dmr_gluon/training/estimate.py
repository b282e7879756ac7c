"""Estimate how long a run would take, from a few of its steps."""

import time

from ..data.loader import training_batches
from ..runtime import mx
from ..system.signals import say
from .progress import duration, speed
from .step import split_over


def estimate(step, recipe, prepared, plan, options):
    """Time some steps and one evaluation batch, and print how long the run would take.

    This changes the network's weights.

    Parameters
    ----------
    step : TrainingStep
    recipe : Recipe
    prepared : RecordDataset
    plan : Plan
    options : RunOptions
    """
    group, seed, reading = step.group, options.seed, options.reading(recipe)
    batches = training_batches(prepared, recipe, seed, 1, shard=group.shard, reading=reading)
    timed, images, started = 0, 0, time.monotonic()
    for number, (data, label) in enumerate(batches):
        step(data, label, plan.lr(recipe, 1, 0), plan.images_in(number))
        mx.nd.waitall()
        timed, images = timed + 1, images + plan.images_in(number)
        # The first steps also allocate memory and choose algorithms.
        if number == 1 and plan.per_epoch > 3:
            timed, images, started = 0, 0, time.monotonic()
        # All workers must make the same number of steps.
        long = group.kv is None and time.monotonic() - started > 10
        if number == min(plan.per_epoch, 12) - 1 or long and timed:
            break
    batches.close()
    rate = images / (time.monotonic() - started)
    parts = split_over(step.devices, data)
    with step.flat.apart():
        for _ in range(2):  # the first one allocates memory
            started = time.monotonic()
            [step.net(part) for part in parts]
            mx.nd.waitall()
    per_batch = time.monotonic() - started
    test = prepared.count("test") / (len(label) * group.count)
    per_epoch = min(plan.batch * plan.per_epoch, plan.count)
    training = per_epoch / plan.per_epoch / rate * plan.total
    evaluation = per_batch * test * plan.epochs
    if group.first:
        say(
            f"estimate from {timed} step{'s' if timed != 1 else ''}: {speed(rate)} training "
            f"images per second; {plan.total:,} steps take {duration(training)}, {plan.epochs} "
            f"evaluations {duration(evaluation)}, {duration(training + evaluation)} in all"
        )
