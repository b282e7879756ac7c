"""Every command of README and docs, in the order in which they can be run, and what runs it.

``python tests/documented.py`` prints the list as a table.
"""

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_CALL_OFFICIAL = REPOSITORY / "tests" / "call_official.py"
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
#: With what a line of a code block begins if it is a command.
_PROGRAMS = r"(?:\w+=\S+ +)*(dmr|python|make|pip|srun|mpirun|docker|pre-commit|\.) +(?![a-z]+:)"

#: What stands for a name that the reader has to give.
PLACEHOLDERS = {
    "RUN": "runs/mine-cifar_dmrnet14-001",
    "BUNDLE": "bundle",
    "OTHER": "runs/grouped",
    "NAME": "cifar_dmrnet8",
    "FILE": "picture.png",
}


@dataclass(frozen=True)
class Run:
    """It is run by tests/test_documented.py: as it stands, without what is in brackets, with
    ``also`` behind it; or what stands here instead, where a stand-in is needed."""

    also: str = ""
    instead: str = ""

    def __str__(self):
        how = f"`{self.instead}`" if self.instead else f"with `{self.also}`" if self.also else ""
        return f"tests/test_documented.py {how}".strip()


@dataclass(frozen=True)
class By:
    """Another test runs it, or the same with other names."""

    test: str

    def __str__(self):
        return self.test


@dataclass(frozen=True)
class Cannot:
    """It cannot be run here; that our parsers take it is tested all the same."""

    why: str

    def __str__(self):
        return f"not run: {self.why}"


_CI = By(".ci/run")
_GPUS = Cannot("needs GPUs")
_DOCKER = Cannot("needs Docker; the files are linted and checked")
_BENCH = By("test_benchmarks.py::test_the_comparison_measures_everybody")
_SHORT = "--epochs 1"

COMMANDS = {
    "make demo": _CI,
    "make test": _CI,
    "make test-all": Cannot("it would run itself"),
    "make test-pythons": Cannot("an hour; it is `make test` for each Python"),
    "make coverage": Cannot("it is `make test`, counting lines"),
    "make mutants": Cannot("an hour or more"),
    ". .venv/bin/activate": Cannot(
        "changes the shell; every command here is run in that environment"
    ),
    "make install EXTRA=cu112": By("test_cu112.py::test_the_wheel_for_gpus_imports"),
    "make install": _CI,
    "pip install '.[cpu]'": By("test_packaging.py::test_a_wheel_works_in_an_empty_environment"),
    "docker build -f docker/cpu.Dockerfile -t dmr-gluon:cpu .": _DOCKER,
    "docker build -f docker/cu112.Dockerfile -t dmr-gluon:cu112 .": _DOCKER,
    'docker run --gpus all --user "$(id -u):$(id -g)" -v "$PWD/data:/work/data" '
    '-v "$PWD/runs:/work/runs" dmr-gluon:cu112 '
    "python train_cifar.py --gpus 0": _DOCKER,
    'docker run --user "$(id -u):$(id -g)" -v "$PWD/data:/work/data" dmr-gluon:cpu '
    "dmr prepare cifar10 --out data/cifar10": _DOCKER,
    "dmr doctor": Run(),
    "dmr doctor --json": Run(),
    "dmr networks": Run(),
    "dmr networks dmrnet44": Run(),
    "dmr networks NAME [--classes 100]": Run(),
    "dmr paths [--plot FILE] [--blocks 9,24]": Run(),
    "dmr paths NAME ...": Run(instead="dmr paths cifar_dmrnet8 cifar_resnet14"),
    "dmr verify": _CI,
    "dmr verify --full": By("test_verify.py::test_nothing_is_unexplained"),
    "dmr verify --gpus 0,1": _GPUS,
    "dmr verify --gpus 0-7 --json > verify.json": _GPUS,
    "dmr verify --cpus 2": By("test_device_checks.py::test_all_is_green_on_two_cpu_contexts"),
    'pip install "dmr-gluon[cu112]"': Cannot("needs GPUs; test_cu112.py installs the wheel"),
    "dmr prepare imagenet --source /data/ILSVRC --out data/imagenet": By(
        "test_documented.py, from another folder"
    ),
    "python train_imagenet.py --gpus 0-7": _GPUS,
    "python train_imagenet.py --gpus 0-7 --estimate": _GPUS,
    "python train_imagenet.py --gpus 0-7 --run-dir runs/imagenet-dmrnet44": _GPUS,
    "CUDA_VISIBLE_DEVICES=4,5,6,7 python train_imagenet.py --gpus 0-3": _GPUS,
    # Data
    "dmr prepare digits --out data/digits": Run(),
    "dmr prepare folder IMAGES --out data/mine --name mine --resize 32x32": Run(),
    "dmr prepare folder IMAGES --out data/mine [--name mine] [--resize 32x32 | --resize 480]": Run(
        instead="dmr prepare folder IMAGES --out data/other --name mine --resize 32x32"
    ),
    "dmr prepare cifar10 --out data/cifar10 [--source cifar-10-python.tar.gz]": Run(
        instead="dmr prepare cifar10 --out data/cifar10 --source cifar-10-python.tar.gz --partial"
        f" && python {_CALL_OFFICIAL} data/cifar10 cifar10"
    ),
    "dmr prepare cifar100 --out data/cifar100 [--source cifar-100-python.tar.gz]": Run(
        instead="dmr prepare cifar100 --out data/cifar100 --source "
        "cifar-100-python.tar.gz --partial"
    ),
    "dmr prepare svhn --out data/svhn [--source DIR] [--svhn-split authors]": Run(
        instead="dmr prepare svhn --out data/svhn --source svhn --svhn-split authors --partial"
    ),
    "dmr prepare imagenet --out data/imagenet --source DIR [--short-side 480] [--checksums]": Run(
        instead="dmr prepare imagenet --out data/imagenet --source imagenet --partial"
    ),
    "dmr prepare cifar10 --source TREE --out data/cifar10": By(
        "test_content.py::test_cifar10_itself"
    ),
    "dmr check data/cifar10 [--sample N] [--no-hashes]": Run(),
    "dmr show data/cifar10 [--out FILE] [--seed 1] [--epoch 1]": Run(),
    # Training
    "python train_cifar.py --data-dir data/mine --model cifar_dmrnet14 --epochs 20": Run(
        also=_SHORT
    ),
    "python train_cifar.py --dataset digits": Run(also="--steps 2 --model cifar_dmrnet8"),
    "python train_cifar.py --data-dir data/mine --model cifar_dmrnet32_w4 --gpus 0-3": _GPUS,
    "python train_cifar.py --data-dir data/mine --gpus 0,1": _GPUS,
    "python train_imagenet.py --data-dir data/imagenet --gpus 0-7": _GPUS,
    "python train_cifar.py --run-dir RUN --resume": Run(),
    "dmr eval runs/mine-cifar_dmrnet14-001": Run(),
    "dmr convert RUN --form grouped --run-dir OTHER": Run(),
    "python train_cifar.py --run-dir OTHER --resume": Run(),
    "dmr import-authors PREFIX EPOCH [--out DIR] [--dataset cifar10]": By(
        "test_cli.py::test_a_checkpoint_of_the_authors_is_imported"
    ),
    "dmr train --table 2 --row L=54 --dataset cifar10 --network dmrnet --seeds 5": Run(
        also="--seeds 2 --epochs 1"
    ),
    "python train_cifar.py --dataset cifar10 --model cifar_dmrnet56 --estimate": Run(),
    "dmr status": Run(),
    "dmr status RUN --json": Run(),
    "dmr status --watch": By("test_status.py::test_watching_draws_again_until_ctrl_c"),
    "dmr status runs/table2 --watch": By("test_status.py::test_watching_draws_again_until_ctrl_c"),
    # From zero to a compared result (docs/reproducing.md)
    "dmr prepare cifar10 --out data/cifar10": Cannot("downloads 170 MB from the data set's page"),
    "dmr prepare svhn --out data/svhn": Cannot("downloads 1.6 GB from the data set's page"),
    "dmr prepare imagenet --source ARCHIVES --out data/imagenet --short-side 480": Run(
        instead="dmr prepare imagenet --source imagenet --out data/small --short-side 40 --partial"
    ),
    "dmr prepare folder IMAGES --out data/mine64 --name mine64 --resize 64x64": Run(),
    "dmr check data/cifar10": Run(),
    "dmr show data/mine64": Run(),
    "python train_cifar.py --dataset cifar10 --model cifar_dmrnet56 --gpus 0,1 --estimate": _GPUS,
    "python train_imagenet.py --data-dir data/imagenet --gpus 0-7 --estimate": _GPUS,
    "python train_cifar.py --data-dir data/mine64 --model cifar_dmrnet14 --image-size 64 "
    "--epochs 20": Run(also=_SHORT),
    "dmr train --table 2 --row L=54 --dataset cifar10 --network dmrnet --seeds 5 --gpus 0,1": _GPUS,
    "dmr train --table 2 --row L=54 --dataset svhn --network dmrnet --seeds 5 --gpus 0,1": _GPUS,
    "dmr train --table 4 --network dmrnet --gpus 0-7": _GPUS,
    "dmr compare runs/table2 --html report.html": Run(),
    "dmr compare runs/table2": Run(),
    "dmr compare runs/table4": Run(instead="dmr compare runs/table2"),
    "dmr export runs/table2/cifar10-cifar_dmrnet56-seed1 --out exported --forms "
    "fused,int8,onnx": Run(
        instead="dmr export runs/table2/cifar10-cifar_dmrnet56-seed1 --out cell --forms fused,onnx"
    ),
    "dmr predict exported photo.jpg": Run(instead="dmr predict cell photo.jpg"),
    # Comparing
    "dmr compare runs": Run(),
    "dmr compare runs --html report.html": Run(),
    "dmr compare runs --pictures pictures --markdown results.md": Run(),
    "dmr compare runs/table2 --live --html report.html": Run(),
    "dmr compare new --against old": Run(instead="dmr compare runs/table2 --against runs"),
    "dmr compare runs --against runs": Run(),
    "make results": By("test_our_results.py::test_the_document_is_made_from_the_logs"),
    "python train_cifar.py --data-dir data/cifar10-jpeg --model cifar_dmrnet14 --epochs 4 --seed 1 "
    "--cpus 2": Cannot("half an hour, and images that are not here"),
    "python train_cifar.py --dataset cifar10 --model cifar_dmrnet14 --epochs 5 "
    "--lr-drops 0.4,0.6,0.8 --cpus 2 --seed 1 --log-steps 250": Run(
        instead="python train_cifar.py --dataset digits --model cifar_dmrnet8 --epochs 1 "
        "--lr-drops 0.4,0.6,0.8 --cpus 2 --seed 1 --log-steps 250 --steps 2"
    ),
    "dmr compare runs --against cross_d26w1_exp3.txt": By(
        "test_points.py::test_text_json_page_and_picture"
    ),
    # Deploying
    "dmr export runs/mine-cifar_dmrnet14-001 --out exported --forms fused,onnx": Run(),
    "dmr predict exported photo.jpg folder/": Run(),
    "python exported/predict_onnx.py photo.jpg": Run(),
    "dmr export RUN --out BUNDLE --forms folded,fused,int8,onnx": Run(also="--int8-limit 100"),
    "dmr export RUN --out BUNDLE [--epoch N]": Run(
        instead="dmr export runs/mine-cifar_dmrnet14-001 --out plain --epoch 1"
    ),
    "dmr export RUN --out BUNDLE --all": Run(
        instead="dmr export runs/digits-cifar_dmrnet8-001 --out all --all --int8-limit 100"
    ),
    "dmr predict BUNDLE photo.jpg holiday/ '2024/**/*.png'": Run(),
    "dmr predict BUNDLE holiday/ --csv > labels.csv": Run(),
    "dmr predict BUNDLE holiday/ --json --top 3 --form int8": Run(),
    "pip install numpy onnxruntime opencv-python-headless": Cannot(
        "installs what the tests' environment has"
    ),
    "python BUNDLE/predict_onnx.py photo.jpg holiday/ --csv": Run(),
    "python benchmarks/deployment.py BUNDLE ...": Cannot(
        "minutes of measuring; its parts are tested"
    ),
    "python benchmarks/deployment.py --random dmrnet44": Cannot("minutes of measuring"),
    "dmr publish runs/cifar10-cifar_dmrnet56-001 store": Run(
        instead="dmr publish runs/mine-cifar_dmrnet14-001 store"
    ),
    # Several machines
    "dmr launch -n 2 -s 1 -- python train_cifar.py --data-dir data/digits --run-dir runs/two "
    "--kv-store dist_sync": Run(also="--steps 2 --model cifar_dmrnet8"),
    "dmr launch -n 2 -s 2 --hosts hosts -- python train_imagenet.py --data-dir /data/imagenet "
    "--run-dir /shared/runs/one --gpus 0-7 --kv-store dist_sync": By(
        "test_launch.py::test_hosts_over_ssh"
    ),
    "DMR_ATTEMPT=$attempt srun --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=none --label "
    'sh -c \'exec ./cluster_role.sh "$SLURM_PROCID" "$@"\' role '
    "python train_imagenet.py --data-dir /data/imagenet "
    "--run-dir /shared/runs/one --gpus 0-7 --kv-store dist_sync && break": By(
        "test_launch.py::test_a_cluster_of_mxnets_processes"
    ),
    "mpirun -np 5 --hostfile hosts --map-by node --bind-to none -x DMR_ATTEMPT=$attempt "
    "-x DMLC_NUM_WORKER -x DMLC_NUM_SERVER -x DMLC_PS_ROOT_URI -x OMP_NUM_THREADS=16 "
    'sh -c \'exec ./cluster_role.sh "$OMPI_COMM_WORLD_RANK" "$@"\' role '
    "python train_imagenet.py ... --kv-store dist_sync && break": By(
        "test_launch.py::test_a_cluster_of_mxnets_processes"
    ),
    # Speed
    "python benchmarks/speed.py": By("test_predicted_scaling.py::test_a_network_is_timed"),
    "python benchmarks/speed.py cifar_dmrnet56 dmrnet44 --json found.json": By(
        "test_predicted_scaling.py::test_a_network_is_timed"
    ),
    "python benchmarks/profile_step.py cifar_dmrnet56": By(
        "test_predicted_scaling.py::test_a_real_profile"
    ),
    "python benchmarks/profile_step.py cifar_dmrnet56 --infer": By(
        "test_predicted_scaling.py::test_a_real_profile"
    ),
    "python benchmarks/predict.py dmrnet44 --images-per-second SPEED --batch-per-device 32 "
    "--devices 8 --machines 1,2,4,8 --device-bandwidth 10 --network-bandwidth 25 "
    "--read-per-core 500 --cores 32": By(
        "test_predicted_scaling.py::test_the_program_prints_a_prediction_that_says_so"
    ),
    "python benchmarks/predict.py dmrnet44 --images-per-second 200 --batch-per-device 32 "
    "--devices 8 --machines 1,2,4,8 --device-bandwidth 10 --network-bandwidth 25 "
    "--read-per-core 500 --cores 32": Run(),
    "make bench": Cannot("an hour or two, and 3 GB of downloads"),
    'make bench BENCH="--networks NAME --precisions float32 --forms eager compiled traced '
    '--only training inference memory --rounds 5 --seconds 1.5 --out-dir bench/NAME"': _BENCH,
    'make bench BENCH="--networks cifar_dmrnet56 --rounds 5 --seconds 1"': _BENCH,
    'make bench BENCH="--networks cifar_dmrnet56 --only training --rounds 5"': _BENCH,
    "python benchmarks/compare.py --peer-python PYTHON --out-dir bench": _BENCH,
    "python benchmarks/scaling.py --json scaling.json": By(
        "test_predicted_scaling.py::test_scaling_measures_and_fits"
    ),
    "pip install -r benchmarks/requirements.txt": Cannot("3 GB of downloads"),
    "python benchmarks/data_reading.py --small CIFAR [SET ...] --large IMAGENET --peer-python "
    "PYTHON_OF_THAT_ENVIRONMENT --json found.json": By(
        "test_benchmarks.py::test_data_reading_measures_our_reader"
    ),
}


def commands_of(path):
    """The commands in the code blocks of a document, without comments, each in one line."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    found, fence = [], None
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line.strip("`") if fence is None else None
        elif line.startswith("    ") or fence in ("sh", "bash", ""):
            line = re.split(r"\s+#", line.strip())[0]
            if fence != "python" and re.match(_PROGRAMS, line):
                found.append(re.sub(r"\s+", " ", line))
    return found


def blocks_of(path):
    """The blocks of Python in a document."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def as_it_is_run(command):
    """What the shell gets."""
    how = COMMANDS[command]
    if how.instead:
        return how.instead
    command = re.sub(r" \[[^\]]*\]", "", command)
    for name, value in PLACEHOLDERS.items():
        command = re.sub(rf"\b{name}\b", value, command)
    before, found, after = command.partition(" > ")
    return f"{before} {how.also}".strip() + found + after


def main():
    print("| command | in | run by |\n|---|---|---|")
    for command, how in COMMANDS.items():
        places = [path.name for path in DOCUMENTS if command in commands_of(path)]
        print(f"| `{command}` | {', '.join(places)} | {how} |".replace(" | --", " \\| --"))


if __name__ == "__main__":
    main()
