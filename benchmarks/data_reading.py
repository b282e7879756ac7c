"""How fast prepared images are read, beside ImageRecordIter and a PyTorch DataLoader with Pillow.

    python benchmarks/data_reading.py --small DIR --large DIR

Every reader reads the same records, decodes the same bytes, augments as the paper does and
hands out shuffled batches: 32x32 images normalised, padded with 4 zeros, cropped, mirrored, in
batches of 64; photographs scaled to a shorter side of 256 to 480, cropped to 224x224, mirrored,
with colour noise, normalised, in batches of 32. Each runs in a process of its own; the readers
alternate for some rounds. An epoch that is not counted comes first, whole epochs are counted. A
batch counts when it is in memory: a NumPy array, an NDArray, a tensor.

The others:

- ``processes``: ours with a process per core in place of a thread.
- ``before``: the version in the checkout that ``--before`` names.
- ``mxnet``: ImageRecordIter doing all of it. Not quite the same: it pads with grey before
  normalising, and its augmentation depends on its threads.
- ``torchvision``: DataLoader, Pillow, torchvision's transforms, in the faster of two orders:
  augmenting Pillow images (32x32: padded with the rounded mean), or tensors.

What can be chosen (the order, worker processes, ImageRecordIter's context) is tried twice in
short runs before, and each peer gets its best. Before timing, Pillow's pixels and ours must be
the same without augmentation (PNG: exactly; JPEG: to 2 of 255 levels). Not compared: decoders
other than Pillow, and what comes after a batch is in memory (pinning, copies to a GPU).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

READERS = {
    "ours": "dmr_gluon",
    "processes": "dmr_gluon, by processes",
    "before": "dmr_gluon, another version",
    "mxnet": "MXNet ImageRecordIter",
    "torchvision": "PyTorch DataLoader, Pillow, torchvision",
}
PEER = "torchvision"
PEER_PROGRAM = Path(__file__).resolve().parent / "data_reading_peer.py"
#: Training images that an epoch has at least. Smaller sets are repeated, for the sake of the
#: peer: at an epoch's end its workers wait for each other.
LEAST_IMAGES = {"small": 50_000, "large": 1_000}
#: Of a peer's epoch while its best form is looked for, and how long each form runs.
TRIAL_IMAGES = {"small": 5_000, "large": 320}
TRIAL_SECONDS = 1
MOST_LEVELS = {"PNG": 0, "JPEG": 2}


def main(arguments=None):
    from conditions import check_writable

    from dmr_gluon.cli.program import Parser
    from dmr_gluon.system.files import write_result

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", nargs="+", metavar="DIR", help="prepared sets of 32x32 images")
    parser.add_argument("--large", nargs="+", metavar="DIR", help="prepared sets of photographs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="at least, of a measurement")
    parser.add_argument("--readers", nargs="+", choices=READERS, help="(default: all)")
    parser.add_argument("--before", metavar="CHECKOUT", help="of another version of this project")
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        help="interpreter with benchmarks/requirements.txt (default: this one)",
    )
    parser.add_argument("--json", metavar="FILE", help="write every measurement here too")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not options.seconds > 0:
        parser.error("--rounds and --seconds must be above 0")
    if options.before and not os.path.isdir(os.path.join(options.before, "dmr_gluon")):
        parser.error(f"{options.before} is no checkout of this project")
    options.readers = options.readers or [one for one in READERS if one != "before"]
    if ("before" in options.readers) != bool(options.before):
        parser.error("--readers before needs --before, and it needs --readers before")
    check_writable(options.json)
    found = measured(options)
    print(table(found, options.rounds))
    if options.json:
        write_result(options.json, json.dumps(found, indent=1))
    if not options.large:
        print("\nNo photographs were read; name a prepared set of them with --large.")


def measured(options):
    """Everything, for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        opened = open_sets(options, folder)
        found = {"machine": machine(options)}
        found["sets"] = [compare(kind, prepared, options) for kind, prepared in opened]
    return found


def open_sets(options, folder):
    """Kind (small, large) and prepared set, each big enough."""
    from dmr_gluon.data.datasets import open_prepared
    from dmr_gluon.data.loader import check_image_size
    from dmr_gluon.datasets.digits import prepare_digits

    if not options.small:
        options.small = [os.path.join(folder, "digits")]
        prepare_digits(options.small[0])
    opened = [("small", open_prepared(name)) for name in options.small]
    opened += [("large", open_prepared(name)) for name in options.large or ()]
    for kind, prepared in opened:
        check_image_size(prepared, recipe_of(kind))
    return [
        (kind, repeated(prepared, LEAST_IMAGES[kind], Path(folder, f"repeated{number}")))
        for number, (kind, prepared) in enumerate(opened)
    ]


def recipe_of(kind):
    from dmr_gluon.paper.recipes import CIFAR, IMAGENET

    return CIFAR if kind == "small" else replace(IMAGENET, batch_size=32)


def repeated(prepared, least, folder):
    """The set with its training records repeated until there are so many."""
    split = prepared.split("train")
    times = -(-least // split.count)
    if times <= 1:
        return prepared
    folder.mkdir()
    content = Path(split.records).read_bytes()
    offsets = [int(line.split()[1]) for line in Path(split.index).read_text().splitlines()]
    with open(folder / "train.rec", "wb") as records, open(folder / "train.idx", "w") as index:
        for time_ in range(times):
            records.write(content)
            for i, offset in enumerate(offsets):
                index.write(f"{time_ * len(offsets) + i}\t{time_ * len(content) + offset}\n")
    longer = replace(split, records=records.name, index=index.name, count=times * split.count)
    return replace(prepared, splits={"train": longer})


def compare(kind, prepared, options):
    """Every measurement of one set."""
    from tqdm import tqdm

    split = prepared.split("train")
    job = {"kind": kind, "prepared": asdict(prepared), "recipe": asdict(recipe_of(kind))}
    found = {
        "set": prepared.name,
        "kind": kind,
        "images": split.count,
        "bytes_per_image": os.path.getsize(split.records) / split.count,
        "forms": {},
        "rates": {reader: [] for reader in options.readers},
    }
    if PEER in options.readers:
        found["levels_apart"] = check_pixels(job, prepared, options)
    runs = (1 + options.rounds) * len(options.readers)
    with tqdm(total=runs, desc=prepared.name, unit=" runs", disable=None) as bar:
        for name in options.readers:
            found["forms"][name] = best_form(name, job, options)
            bar.update()
        job.update(seconds=options.seconds, images=split.count)
        for _ in range(options.rounds):
            for name, rates in found["rates"].items():
                form = found["forms"][name]
                rates += in_a_process(name, {**job, "forms": [form]}, options)["rates"]
                bar.update()
    return found


def forms(reader):
    """What can be chosen of a reader."""
    from dmr_gluon.runtime import usable_cores

    if reader in ("ours", "before"):
        return [{}]
    if reader == "processes":
        return [{"processes": usable_cores()}]
    if reader == "mxnet":
        return [{"ctx": "cpu"}, {"ctx": "gpu"}]  # what its threads are meant to be beside
    workers = sorted({1, usable_cores(), usable_cores() + 1})
    return [
        {"order": order, "workers": count} for order in ("pillow", "tensor") for count in workers
    ]


def best_form(reader, job, options):
    choices = forms(reader)
    if len(choices) == 1:
        return choices[0]
    short = {"seconds": min(TRIAL_SECONDS, options.seconds), "images": TRIAL_IMAGES[job["kind"]]}
    rates = in_a_process(reader, {**job, **short, "forms": 2 * choices}, options)["rates"]
    best = [max(pair) for pair in zip(rates, rates[len(choices) :])]
    return choices[best.index(max(best))]


def in_a_process(reader, job, options):
    """What a process of its own answers to a job."""
    from dmr_gluon.errors import DMRError

    environment = dict(os.environ)
    command = [sys.executable, __file__, "--job"]
    if reader == PEER:
        command = [options.peer_python, str(PEER_PROGRAM)]
        environment.pop("PYTHONPATH", None)
    if reader == "before":
        environment["PYTHONPATH"] = os.path.abspath(options.before)
    environment.pop("OMP_NUM_THREADS", None)
    job = json.dumps({**job, "reader": reader})
    try:
        done = subprocess.run(
            command, input=job, env=environment, capture_output=True, encoding="utf-8"
        )
    except OSError as error:
        raise DMRError(f"{command[0]} cannot be started ({error.strerror})") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        advice = ""
        if "ModuleNotFoundError" in reason and reader == PEER:
            advice = (
                "; install benchmarks/requirements.txt, or name an interpreter that has them with "
                "--peer-python, or compare without them: --readers ours mxnet"
            )
        raise DMRError(f"the reader {reader} failed under {command[0]} ({reason}){advice}")
    return json.loads(done.stdout.splitlines()[-1])


def check_pixels(job, prepared, options):
    """The most levels by which Pillow's pixels and ours differ, both only normalised."""
    import numpy as np

    from dmr_gluon.data.reader import RecordFile
    from dmr_gluon.data.transforms import Normalise
    from dmr_gluon.errors import DMRError

    count = 256 if job["kind"] == "small" else 8
    normalise, split, most = Normalise(prepared), prepared.split("train"), 0
    mean, std = (np.reshape(part, (3, 1, 1)) for part in (prepared.mean, prepared.std))
    with tempfile.TemporaryDirectory() as folder:
        to = os.path.join(folder, "pixels.npz")
        in_a_process(PEER, {**job, "pixels": to, "images": count}, options)
        with np.load(to) as theirs, RecordFile(split) as records:
            for number in range(min(count, split.count)):
                (image,), (label,) = records.images([number])
                ours = np.empty((1, 3, *image.shape[:2]), np.float32)
                normalise([image], 0, slice(0, 1), ours)
                levels = [np.rint(p * std + mean) for p in (ours[0], theirs[f"image{number}"])]
                apart = int(np.abs(levels[0] - levels[1]).max())
                limit = MOST_LEVELS[str(theirs["formats"][number])]
                if label != theirs["labels"][number] or apart > limit:
                    raise DMRError(
                        f"record {number} of {split.records} is not the same to Pillow "
                        f"({apart} levels, labels {label} and {theirs['labels'][number]}); "
                        f"'dmr check' says whether it is damaged"
                    )
                most = max(most, apart)
    return most


def images_per_second(epoch, seconds):
    """Of whole epochs, after one that is not counted.

    Parameters
    ----------
    epoch : function
        Called with the epoch's number; yields the number of images of each batch.
    seconds : float
        After which no new epoch begins.
    """
    sum(epoch(0))
    images, number, started = 0, 0, time.perf_counter()
    while True:
        number += 1
        images += sum(epoch(number))
        passed = time.perf_counter() - started
        if passed >= seconds:
            return images / passed


def do_job(job):
    """Images per second of each form of a reader that runs beside MXNet."""
    from dmr_gluon.data.datasets import RecordDataset, Split
    from dmr_gluon.models.spec import tuples_from_lists
    from dmr_gluon.paper.recipes import Recipe

    splits = {name: Split(**split) for name, split in job["prepared"].pop("splits").items()}
    prepared = RecordDataset(**tuples_from_lists(job["prepared"]), splits=splits)
    recipe = Recipe.from_json(job["recipe"])
    rates = []
    for form in job["forms"]:
        epoch = (mxnet_epoch if job["reader"] == "mxnet" else our_epoch)(prepared, recipe, **form)
        rates.append(images_per_second(epoch, job["seconds"]))
    return {"rates": rates}


def our_epoch(prepared, recipe, processes=0):
    from dmr_gluon.data.loader import training_batches

    how = {}
    if processes:  # which another version may not know
        from dmr_gluon.data.reader import Reading

        how["reading"] = Reading(processes=processes)

    def epoch(number):
        return (len(batch.data) for batch in training_batches(prepared, recipe, 1, number, **how))

    return epoch


def mxnet_epoch(prepared, recipe, ctx):
    from dmr_gluon.runtime import mx, usable_cores

    split = prepared.split("train")
    names = [f"{what}_{channel}" for what in ("mean", "std") for channel in "rgb"]
    arguments = dict(zip(names, (*prepared.mean, *prepared.std)))
    if recipe.train_short_side is None:
        arguments.update(pad=recipe.pad, fill_value=round(statistics.mean(prepared.mean)))
    else:
        low, high = recipe.train_short_side
        arguments.update(resize=high, min_random_scale=low / high, max_random_scale=1.0)
        # Area when shrinking, cubic when enlarging, as ours.
        arguments.update(pca_noise=recipe.pca_noise, inter_method=9)
    iterator = mx.io.ImageRecordIter(
        path_imgrec=split.records,
        path_imgidx=split.index,
        shuffle=True,
        data_shape=(3, recipe.image_size, recipe.image_size),
        batch_size=recipe.batch_size,
        rand_crop=True,
        rand_mirror=recipe.mirror,
        preprocess_threads=usable_cores(),
        ctx=ctx,
        verbose=False,
        **arguments,
    )

    def epoch(_):
        iterator.reset()
        for batch in iterator:
            batch.data[0].wait_to_read()
            yield len(batch.data[0])

    return epoch


def machine(options):
    """Cores, processor, versions and load of this machine."""
    from conditions import machine as ours

    found = ours()
    found["ours"] = found.pop("versions")
    if PEER in options.readers:
        found["peer"] = in_a_process(PEER, {"versions": True}, options)
    return found


def table(found, rounds):
    """What was found, as Markdown."""
    machine = found["machine"]
    text = [
        f"{machine['cores']} cores ({machine['processor']}), load {machine['load']:.1f} before; "
        f"medians of {rounds} rounds, ratios round by round",
        *(
            f"{who}: " + ", ".join(f"{name} {version}" for name, version in machine[who].items())
            for who in ("ours", "peer")
            if who in machine
        ),
    ]
    lines = ["- " + line for line in text]
    for one in found["sets"]:
        if "levels_apart" in one:
            lines.append(f"- {one['set']}: pixels at most {one['levels_apart']} levels apart")
    lines += ["", "| set | bytes per image | reader | images per second | ours / this |"]
    lines += ["|---|---|---|---|---|"]
    for one in found["sets"]:
        for reader, rates in one["rates"].items():
            form = ", ".join(f"{key} {value}" for key, value in one["forms"][reader].items())
            ratio = ""
            if "ours" in one["rates"] and reader != "ours":
                pairs = zip(one["rates"]["ours"], rates)
                ratio = f"{statistics.median(ours / theirs for ours, theirs in pairs):.2f}"
            lines.append(
                f"| {one['set']} | {one['bytes_per_image']:,.0f} "
                f"| {READERS[reader]}{form and f' ({form})'} "
                f"| {statistics.median(rates):,.0f} | {ratio} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--job"]:
        print(json.dumps(do_job(json.load(sys.stdin))))
    else:
        from dmr_gluon.cli.program import run

        run(main)
