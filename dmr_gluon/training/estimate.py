"""Estimate how long a run would take, from a few of its steps."""

import time
from dataclasses import replace

from ..data.loader import training_batches
from ..runtime import mx
from .progress import duration, speed
from .step import split_over

#: Pixels of a timed step on CPUs: eight ImageNet crops. Larger batches are no faster there, and a
#: full one would take minutes.
_ENOUGH = 8 * 224 * 224


def estimate(step, recipe, prepared, plan, options):
    """Time some steps and one evaluation batch, and print how long the run would take.

    This changes the network's weights.

    Parameters
    ----------
    step : TrainingStep
    recipe : Recipe
    prepared : PreparedSet
    plan : Plan
    options : RunOptions
    """
    timed_plan = plan
    if step.devices[0].device_type == "cpu":
        parts = len(step.devices) * recipe.accumulate * step.group.count
        enough = max(parts, step.group.count * _ENOUGH // recipe.image_size**2)
        if enough < plan.images_in(0):
            timed_plan = replace(plan, batch=enough, per_epoch=plan.count // enough)
    cut = replace(recipe, batch_size=timed_plan.batch)
    threads = options.reading_threads
    batches = training_batches(
        prepared, cut, options.seed, 1, part=step.group.part, threads=threads
    )
    timed, images, started = 0, 0, time.monotonic()
    for number, (data, label) in enumerate(batches):
        size = timed_plan.images_in(number)
        step(data, label, plan.lr(recipe, 1, 0), size)
        mx.nd.waitall()
        timed, images = timed + 1, images + size
        # The first steps also allocate memory and choose algorithms.
        if number == 1 and timed_plan.per_epoch > 3:
            timed, images, started = 0, 0, time.monotonic()
        # All workers must make the same number of steps.
        long = step.group.kv is None and time.monotonic() - started > 10
        if number == min(timed_plan.per_epoch, 12) - 1 or long and timed:
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
    test = prepared.split("test").count / (len(label) * step.group.count)
    training, evaluation = plan.images_per_step / rate * plan.total, per_batch * test * plan.epochs
    if step.group.first:
        of = f" of {timed_plan.batch} images" if timed_plan is not plan else ""
        print(
            f"estimate from {timed} step{'s' if timed != 1 else ''}{of}: {speed(rate)} training "
            f"images per second; {plan.total:,} steps take {duration(training)}, {plan.epochs} "
            f"evaluations {duration(evaluation)}, {duration(training + evaluation)} in all",
            flush=True,
        )
