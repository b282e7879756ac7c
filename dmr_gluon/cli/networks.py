"""Subcommands of ``dmr`` about the networks themselves: networks, paths. Neither needs data."""

from decimal import Decimal

from ..errors import DMRError
from .program import add_plugin


def add_commands(commands):
    """Add networks and paths to the parser of ``dmr``."""
    text = "list the paper's networks with their sizes, or show one layer by layer"
    parser = commands.add_parser("networks", function=_networks, help=text)
    parser.add_argument("name", metavar="NAME", nargs="?", help="a network, such as cifar_dmrnet56")
    parser.add_argument("--classes", type=int, help="default: 10; 1000 for ImageNet")
    add_plugin(parser)

    text = "list the lengths of paths through the networks (section 3.2, Figure 3)"
    parser = commands.add_parser("paths", function=_paths, help=text)
    names = "networks to analyse as built; for a single one, all lengths are listed"
    parser.add_argument("names", metavar="NAME", nargs="*", help=names)
    parser.add_argument("--plot", metavar="FILE", help="draw Figure 3 into a .png, .svg or .pdf")


def _networks(options):
    if options.name is not None:
        _list_layers(options.name, options.classes)
    elif options.classes is not None:
        raise DMRError("--classes is for one network: dmr networks NAME")
    else:
        _list_networks()


def _list_layers(name, classes):
    from ..models.names import get_spec

    spec = get_spec(name, classes=classes)  # refuses a wrong name before MXNet is loaded

    from ..models.complexity import image_size, measure
    from ..models.network import Network
    from ..system.text_tables import text_table

    size = image_size(spec)
    complexity = measure(Network(spec).portable_symbol(), (3, size, size))
    rows = [
        (
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output)),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
        )
        for layer in complexity.layers
    ]
    print(text_table(("layer", "kind", "output", "parameters", "multiply-adds"), rows, (3, 4)))
    print(
        f"\n{spec.name}: depth {complexity.depth}, {complexity.parameters:,} parameters, "
        f"{complexity.multiply_adds:,} multiply-adds and {complexity.activations:,} activations "
        f"for an image of {size}x{size}"
    )


def _list_networks():
    from ..analysis.published import check_parameters, network_sizes
    from ..paper.numbers import NETWORKS
    from ..system.text_tables import text_table
    from .verify import print_notes

    rows, notes, sizes = [], set(), network_sizes()
    for published in NETWORKS:
        size = sizes[published.name]
        check = check_parameters(published, size["parameters"])
        note = check.note if check else ""
        notes.add(note)
        rows.append(
            (
                published.name,
                published.source,
                size["depth"],
                f"{size['parameters'] / 1e6:.3f}",
                f"{published.parameters or ''} {note:1}",
                f"{size['multiply_adds'] / 1e6:,.1f}",
                f"{size['activations'] / 1e6:.2f}",
            )
        )
    header = ("network", "paper", "depth", "parameters", "paper's", "multiply-adds", "activations")
    print(text_table(header, rows, (2, 3, 4, 5, 6)))
    print("\nIn millions; multiply-adds and activations of convolutions and FC, for one image.")
    print_notes(notes - {""})


def _paths(options):
    from ..analysis import path_plot
    from ..analysis.paths import of_network
    from ..models.names import get_spec
    from ..paper.numbers import FIGURE3_L
    from ..system.text_tables import text_table

    if options.plot and options.names:
        raise DMRError("--plot draws the networks of Figure 3; leave out the names")
    if options.names:
        found = [(spec.name, of_network(spec)) for spec in map(get_spec, options.names)]
    else:
        found = [
            (f"{name}, L = {length}", distribution)
            for length in FIGURE3_L
            for name, distribution in path_plot.distributions(length)
        ]
    rows = [
        (
            name,
            f"{float(distribution.mean):.2f}",
            f"{distribution.std:.2f}",
            min(distribution.counts),
            max(distribution.counts),
            _count(distribution.total),
        )
        for name, distribution in found
    ]
    header = ("network", "average", "deviation", "shortest", "longest", "paths")
    print(text_table(header, rows, (1, 2, 3, 4, 5)))
    if len(options.names) == 1:
        ((_, distribution),) = found
        shares = [
            (length, _count(count), f"{100 * distribution.share(length):.4f}")
            for length, count in distribution.counts.items()
        ]
        print("\n" + text_table(("length", "paths", "percent"), shares, (0, 1, 2)))
    if options.plot:
        from ..runs.learning_curve import write_picture

        write_picture(lambda: path_plot.draw(FIGURE3_L), options.plot)
        print(options.plot)


def _count(paths):
    """Format a number of paths, which may have hundreds of digits."""
    return f"{Decimal(paths):.4g}" if paths > 1e9 else str(paths)
