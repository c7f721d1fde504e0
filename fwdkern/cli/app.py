"""The typer application: commands, and how errors and warnings reach the reader."""

import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from fwdkern import __version__
from fwdkern.cli import console
from fwdkern.cli.batch import batch
from fwdkern.cli.bench import bench
from fwdkern.cli.demo import demo
from fwdkern.cli.evaluate import evaluate
from fwdkern.cli.explain import explain
from fwdkern.cli.info import info
from fwdkern.cli.layers import layers
from fwdkern.cli.serve import serve
from fwdkern.cli.units import units
from fwdkern.errors import FwdkernError

_HELP = """What every neuron of a network saw in a given input: exact relevance maps, each one checked.

A map says how much every pixel adds to a value of the network: a class score or a single unit. Its numbers sum to
that value; what is missing from the sum is printed as the completeness error.

Begin with:

    fwdkern demo

    fwdkern explain seven.png

    fwdkern layers -m torchvision:resnet18

    fwdkern explain cat.jpg -m torchvision:resnet18 -w r18.safetensors

    fwdkern units cat.jpg -l layer2.0.relu -m torchvision:resnet18 -w r18.safetensors

    fwdkern serve

demo and the default model need no files: a small reader of handwritten digits is built in. layers lists the names
that units wants. Every command explains itself: fwdkern explain --help
"""


class _Group(TyperGroup):
    """Prints errors of fwdkern as one sentence, with exit code 2; `--debug`, anywhere, shows the traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = args[: args.index("--")] if "--" in args else args
        if "--debug" in own:
            args.remove("--debug")
            ctx.meta["debug"] = True
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except FwdkernError as error:
            if ctx.meta.get("debug"):
                raise
            console.complain(str(error))
            raise typer.Exit(2) from error


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    console.warn(str(message))


app = typer.Typer(
    name="fwdkern",
    cls=_Group,
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.say(f"fwdkern {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


for command in (explain, units, layers, info, demo, serve, evaluate, batch, bench):
    app.command()(command)


def main() -> None:
    """Run the command line; the entry point of the package."""
    app(args=sys.argv[1:])
