"""The house's rules: imports run one way, files stay short, importing is light."""

import ast
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dmr_gluon"

#: Floors, lowest first: folders and modules of the top level. A module imports from its own floor
#: and from lower ones. The package itself, which imports when asked, stands on none.
FLOORS = [
    ["errors", "standalone", "version"],
    ["system"],
    ["runtime", "models", "symbols"],
    ["paper"],
    ["data", "runs", "devices"],
    ["training", "datasets", "launch"],
    ["analysis", "deploy", "model_zoo"],
    ["compare", "doctor", "probe", "device_checks"],
    ["cli"],
]


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        name = name[: -len("__init__")].rstrip(".") if name.endswith("__init__") else name
        yield name, path


NAMES = {name for name, _ in modules()}


def imports(name, path):
    """(module imported, at the top of the file?) for every import."""
    tree = ast.parse(path.read_text())
    top, known = set(map(id, tree.body)), NAMES
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module, id(node) in top
                continue
            base = package[: len(package) - node.level + 1]
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                deeper = f"{module}.{alias.name}".strip(".")
                yield "dmr_gluon." + (deeper if deeper in known else module), id(node) in top


def floor_of(name):
    for number, names in enumerate(FLOORS):
        if name.split(".")[0] in names:
            return number
    return None


@pytest.mark.parametrize("name, path", list(modules()), ids=lambda value: str(value))
def test_imports_run_one_way(name, path):
    if not name:
        return
    assert floor_of(name) is not None, f"say in FLOORS where {name} belongs"
    for imported, at_top in imports(name, path):
        other = imported[len("dmr_gluon.") :]
        if imported.startswith("dmr_gluon.") and at_top:
            assert floor_of(other) <= floor_of(name), f"{name} imports {other}"


def test_no_two_folders_import_each_other():
    pairs = {
        (name.split(".")[0], imported.split(".")[1])
        for name, path in modules()
        for imported, _ in imports(name, path)
        if name and imported.startswith("dmr_gluon.")
    }
    assert not [pair for pair in pairs if pair[0] < pair[1] and pair[::-1] in pairs]


def test_only_the_runtime_imports_mxnet():
    without_the_package = ("standalone.logits_worker", "standalone.predict_onnx")
    for name, path in modules():
        for imported, _ in imports(name, path):
            if name in without_the_package:
                assert imported.split(".")[0] != "dmr_gluon", name
                continue
            assert imported.split(".")[0] != "mxnet", f"{name} must use dmr_gluon.runtime"


def test_no_file_is_over_400_lines():
    root = PACKAGE.parent
    others = (
        path for folder in ("symbols", "examples", "docs") for path in root.glob(f"{folder}/*.py")
    )
    for path in [*PACKAGE.rglob("*.py"), *root.glob("*.py"), *others]:
        assert len(path.read_text().splitlines()) <= 400, path


def test_importing_the_package_is_light(command):
    heavy = "{'mxnet', 'numpy', 'cv2', 'matplotlib', 'gluoncv', 'sklearn'}"
    for code in (
        "import dmr_gluon",
        "import dmr_gluon.cli.main",
        "import dmr_gluon.analysis.paths, dmr_gluon.paper.numbers",
        "import dmr_gluon.cli.training_flags, dmr_gluon.paper.recipes, dmr_gluon.models.names",
        "import dmr_gluon.compare.figures.drawing",
        "from dmr_gluon import NetworkSpec, Recipe, network",
    ):
        done = command("-c", f"{code}; import sys; print({heavy} & set(sys.modules))")
        assert done.stdout.strip() == "set()", (code, done)


def test_every_public_name_is_there():
    import dmr_gluon

    for name in dmr_gluon.__all__:
        assert getattr(dmr_gluon, name) is not None
    with pytest.raises(AttributeError):
        dmr_gluon.nonsense  # noqa: B018


def lines_of_code(path):
    """Without docstrings, comments and empty lines."""
    lines, between = set(), True
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING):
                continue
            ends = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            if not ends and not (between and token.type == tokenize.STRING):
                lines.update(range(token.start[0], token.end[0] + (token.type != 0)))
            between = ends
    return len(lines)


def sizes():
    """Lines of code of each part of the product, as docs/architecture.md lists them."""
    root, found = PACKAGE.parent, Counter()
    for path in [*PACKAGE.rglob("*.py"), *root.glob("symbols/*.py"), *root.glob("train_*.py")]:
        parts = path.relative_to(root).parts[:-1]
        part = parts[1] if len(parts) > 1 else parts[0] if parts else "cli"
        found[f"`{part}`"] += lines_of_code(path)
    for path in (path for kind in ("css", "js") for path in PACKAGE.rglob(f"*.{kind}")):
        found[f"`{path.relative_to(PACKAGE).parts[0]}`"] += len(path.read_text().splitlines())
    return found


def test_the_sizes_that_are_documented_are_true():
    """Within a tenth or a hundred lines."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \|", text.split("<!-- size -->")[1], re.M)
    said, found = {part: int(lines.replace(",", "")) for part, lines in rows}, sizes()
    assert said.keys() == found.keys()
    for part, lines in found.items():
        assert abs(said[part] - lines) <= max(100, lines / 10), (part, lines)
    (total,) = re.findall(r"There are about ([\d,]+)", text)
    assert abs(int(total.replace(",", "")) - sum(found.values())) <= 300, sum(found.values())


def test_the_core_path_can_be_read_in_an_hour():
    root = PACKAGE.parent
    text = (root / "docs" / "architecture.md").read_text().split("core -->")[1]
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \|", text, re.M)
    found = {name: lines_of_code(root / name) for name, _ in rows}
    for name, lines in rows:
        assert abs(int(lines) - found[name]) <= max(20, found[name] / 4), (name, found[name])
    assert {"train_cifar.py", "dmr_gluon/models/blocks.py"} <= set(found)
    assert sum(found.values()) <= 3700


if __name__ == "__main__":
    for part, lines in sizes().most_common():
        print(f"{lines:6,} {part}")
    print(f"{sum(sizes().values()):6,} in all")
