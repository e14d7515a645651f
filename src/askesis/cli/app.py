"""The command tree. Commands are thin: they parse, call, and show."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from askesis.cli import output

__all__ = ["app", "main"]

app = typer.Typer(
    name="askesis",
    help="Train, run and judge LLM agents that learn from experience.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs a quarter of a second at every start
    context_settings={"help_option_names": ["-h", "--help"]},
)
store_app = typer.Typer(name="store", help="Look into a run's store, check it, take data out.", no_args_is_help=True)
app.add_typer(store_app)
align_app = typer.Typer(
    name="align", help="Move text embeddings to where image embeddings are (ReAlign).", no_args_is_help=True
)
app.add_typer(align_app)
schedule_app = typer.Typer(
    name="schedule",
    help="Learn and compare the noise levels at which a diffusion model is sampled (ART).",
    no_args_is_help=True,
)
app.add_typer(schedule_app)

RecipeFile = Annotated[Path, typer.Argument(help="A recipe (TOML).", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Values that win over the recipe: section.key=value.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
RunName = Annotated[str, typer.Argument(help="A run's folder, or its name under runs/.", show_default=False)]


def main() -> None:
    """Entry point: runs a command and turns its errors into messages and exit codes."""
    # Before torch is loaded: threads that spin at barriers lose most of their time when another program runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    output.run_guarded(lambda: app(standalone_mode=False), json_output="--json" in sys.argv)


@app.command()
def doctor(json: Json = False) -> int:
    """Show what this installation can do; put the output into a bug report."""
    from askesis.cli.commands import doctor as command

    return command.run(json_output=json)


@app.command()
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every value and where it comes from; do nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a policy. The same command again resumes an interrupted run."""
    from askesis.cli.commands import train as command

    command.run(recipe, overrides or [], explain=explain, json_output=json)


@app.command()
def pretrain(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for the new policy.")] = Path("runs/pretrained"),
    json: Json = False,
) -> None:
    """Make a small policy from generated demonstrations, as the built-in one was made."""
    from askesis.cli.commands import pretrain as command

    command.run(recipe, overrides or [], out=out, json_output=json)


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="nano, a model folder or name, or a run.", show_default=False)],
    recipe: Annotated[
        Path | None, typer.Option(help="World and sampling; a run has its own, nano its quickstart's.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Measure a policy on held-out tasks, with intervals."""
    from askesis.cli.commands import evaluate as command

    command.run(policy, recipe, overrides or [], json_output=json)


@app.command()
def chat(
    policy: Annotated[str, typer.Argument(help="nano, a model folder or name, or a run.")] = "nano",
    say: Annotated[str | None, typer.Option(help="Say this, print the answer and leave.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Tokens per answer.")] = 128,
    json: Json = False,
) -> None:
    """Talk to a policy."""
    from askesis.cli.commands import chat as command

    command.run(policy, say, temperature=temperature, max_tokens=max_tokens, json_output=json)


@app.command()
def serve(
    policy: Annotated[str, typer.Argument(help="nano, a model folder or name, or a run.")] = "nano",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; anything but loopback needs a token.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(envvar="ASKESIS_TOKEN", help="Secret of the clients; made up when one is needed.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; the policy's own by default.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer of a client that sets no limit.")] = 1024,
    seed: Annotated[int, typer.Option(help="Root of the random streams.")] = 0,
    json: Json = False,
) -> None:
    """Serve a policy to OpenAI's clients over HTTP."""
    from askesis.cli.commands import serve as command

    command.run(
        policy, host=host, port=port, token=token, name=name, max_tokens=max_tokens, seed=seed, json_output=json
    )


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs lie.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List runs."""
    from askesis.cli.commands import runs as command

    command.run(folder, json_output=json)


@app.command()
def show(
    run: RunName,
    trace: Annotated[str | None, typer.Option(help="Show one trace, by its id (or its end).")] = None,
    limit: Annotated[int, typer.Option(help="Traces to list.")] = 10,
    timeline: Annotated[bool, typer.Option("--timeline", help="Show where the time of its steps went.")] = False,
    json: Json = False,
) -> None:
    """Show a run: how far, how good, what it sampled."""
    from askesis.cli.commands import show as command

    command.run(run, trace, limit=limit, timeline=timeline, json_output=json)


@app.command()
def top(
    run: RunName,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and leave.")] = False,
    json: Json = False,
) -> None:
    """Watch a run: what it does now, its numbers, where its time goes. Reads only."""
    from askesis.cli.commands import top as command

    command.run(run, every_s=every, once=once, json_output=json)


@app.command()
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs that share the learner.", min=1)] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="Memory of each, GiB.", min=0.1)] = None,
    memory: Annotated[
        float | None, typer.Option(help="Memory of this machine, GiB; what it has by default.", min=0.1)
    ] = None,
    json: Json = False,
) -> int:
    """Reckon the memory that a recipe needs, before anything is loaded. Exit code 1 when it does not fit."""
    from askesis.cli.commands import plan as command

    return command.run(recipe, overrides or [], gpus=gpus, gpu_gib=gpu_memory, host_gib=memory, json_output=json)


@app.command()
def report(
    run: RunName,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN/report.html by default.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a short Markdown report instead.")] = False,
    json: Json = False,
) -> None:
    """Write a run's report: one HTML file that needs no network."""
    from askesis.cli.commands import report as command

    command.run(run, out, markdown=markdown, json_output=json)


@app.command()
def envs(
    family: Annotated[str | None, typer.Argument(help="Show this family's options and an example.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the conformance checks on it.")] = False,
    json: Json = False,
) -> int:
    """List environments and task families."""
    from askesis.cli.commands import envs as command

    return command.run(family, check=check, json_output=json)


@app.command()
def algorithms(
    name: Annotated[str | None, typer.Argument(help="Show this preset's stages and parameters.")] = None,
    json: Json = False,
) -> None:
    """List algorithm presets and the stages they are made of."""
    from askesis.cli.commands import algorithms as command

    command.run(name, json_output=json)


@app.command()
def claim(
    name: Annotated[str | None, typer.Argument(help="A claim; without one they are listed.")] = None,
    scale: Annotated[
        str, typer.Option(help="laptop: the claim itself, minutes; smoke: seconds, not judged.")
    ] = "laptop",
    seeds: Annotated[
        int | None, typer.Option(help="How many seeds, from 0; the claim's own number by default.")
    ] = None,
    json: Json = False,
) -> int:
    """Check a paper's claim: its method against baselines under one budget. Exit code 1 when it does not hold."""
    from askesis.cli.commands import claim as command

    return command.run(name, scale=scale, seeds=seeds, json_output=json)


@store_app.command()
def verify(
    run: RunName,
    heads: Annotated[
        Path | None, typer.Option(help="The heads kept outside, for a store that is no run's.", show_default=False)
    ] = None,
    json: Json = False,
) -> int:
    """Check every record against the Merkle log and the heads kept outside the database."""
    from askesis.cli.commands import store as command

    return command.verify(run, json_output=json, heads=heads)


@store_app.command()
def copy(
    source: RunName,
    target: Annotated[
        str, typer.Argument(help="A new file, or postgresql+psycopg://user@host/database.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Copy a store to a file or a PostgreSQL database: every value, and so the same head."""
    from askesis.cli.commands import store as command

    command.copy(source, target, json_output=json)


@store_app.command()
def query(
    run: RunName,
    sql: Annotated[str, typer.Argument(help="One SELECT statement.", show_default=False)],
    limit: Annotated[int, typer.Option(help="Rows to print.")] = 100,
    json: Json = False,
) -> None:
    """Ask the store in SQL, read only."""
    from askesis.cli.commands import store as command

    command.query(run, sql, limit=limit, json_output=json)


@store_app.command()
def export(
    run: RunName,
    out: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.", show_default=False)],
    run_id: Annotated[
        str | None, typer.Option(help="Which run, in a store that holds several.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Write a run's traces: OpenAI messages with exact token ids."""
    from askesis.cli.commands import store as command

    command.export(run, out, json_output=json, run_id=run_id)


ImagesFile = Annotated[
    Path, typer.Argument(help="Image embeddings [n, d]: .npy, .safetensors or .parquet.", show_default=False)
]
TextsFile = Annotated[Path, typer.Argument(help="Text embeddings of the same encoder.", show_default=False)]


@align_app.command()
def fit(
    images: ImagesFile,
    texts: TextsFile,
    out: Annotated[Path, typer.Option(help="The transform.")] = Path("runs/align/transform.safetensors"),
    method: Annotated[
        str,
        typer.Option(help="realign, anchor_trace, mean_shift, c3, whiten, whiten_centroid, blockwise or none."),
    ] = "realign",
    encoder: Annotated[str, typer.Option(help="What made the embeddings; kept in the file.")] = "",
    sigma: Annotated[float, typer.Option(help="Noise of c3.")] = 0.1265,
    json: Json = False,
) -> None:
    """Fit a transform on images and texts; rows need not belong together."""
    from askesis.cli.commands import align as command

    command.fit(images, texts, out, method=method, encoder=encoder, sigma=sigma, json_output=json)


@align_app.command()
def apply(
    transform: Annotated[Path, typer.Argument(help="A file of `askesis align fit`.", show_default=False)],
    texts: TextsFile,
    out: Annotated[Path, typer.Argument(help="Where the moved texts go.", show_default=False)],
    json: Json = False,
) -> None:
    """Move text embeddings, block by block."""
    from askesis.cli.commands import align as command

    command.apply(transform, texts, out, json_output=json)


@align_app.command("report")
def gap_report(
    images: ImagesFile,
    texts: TextsFile,
    transform: Annotated[Path | None, typer.Option(help="Also show the texts after it.")] = None,
    out: Annotated[Path, typer.Option(help="HTML file; the picture lies beside it.")] = Path("runs/align/report.html"),
    limit: Annotated[int, typer.Option(help="Rows that are used of each.", min=50)] = 5000,
    json: Json = False,
) -> None:
    """Measure the gap between images and texts, and draw it."""
    from askesis.cli.commands import align as command

    command.report(images, texts, transform, out, limit=limit, json_output=json)


@align_app.command()
def embed(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for images.npy and texts.npy.")] = Path("runs/align"),
    json: Json = False,
) -> None:
    """Make embeddings: of a toy world, or of pictures and texts through a CLIP-class model."""
    from askesis.cli.commands import align as command

    command.embed(recipe, overrides or [], out=out, json_output=json)


OptionalRecipe = Annotated[
    Path | None, typer.Option("--recipe", help="Target and learner (TOML); defaults without one.", show_default=False)
]


@schedule_app.command("learn")
def learn_schedule(
    overrides: Overrides = None,
    recipe: OptionalRecipe = None,
    out: Annotated[Path, typer.Option(help="The schedule, JSON.")] = Path("runs/schedule/learned.json"),
    json: Json = False,
) -> None:
    """Learn a schedule for the recipe's target, a minute or so."""
    from askesis.cli.commands import schedule as command

    command.learn(recipe, overrides or [], out=out, json_output=json)


@schedule_app.command("show")
def show_schedule(
    name: Annotated[str, typer.Argument(help="A schedule's file, or uniform, dpm, edm, cosine.", show_default=False)],
    steps: Annotated[int | None, typer.Option(help="Resample a file to so many; 18 for the others.")] = None,
    sigma_max: Annotated[float, typer.Option(help="Of the hand-made ones.")] = 80.0,
    sigma_min: Annotated[float, typer.Option(help="Of the hand-made ones.")] = 0.002,
    json: Json = False,
) -> None:
    """Print noise levels."""
    from askesis.cli.commands import schedule as command

    command.show(name, steps=steps, sigma_max=sigma_max, sigma_min=sigma_min, json_output=json)


@schedule_app.command("compare")
def compare_schedules(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of `askesis schedule learn`.", show_default=False)
    ] = None,
    recipe: OptionalRecipe = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="A value that wins over the recipe: section.key=value.")
    ] = None,
    steps: Annotated[str, typer.Option(help="Numbers of steps.")] = "5,7,10,18",
    solver: Annotated[str, typer.Option(help="euler: an evaluation per step; heun: two, one for the last.")] = "euler",
    picture: Annotated[Path | None, typer.Option(help="Also draw it: .svg or .png.")] = None,
    json: Json = False,
) -> None:
    """Measure schedules, the hand-made ones and the closed form on the recipe's target."""
    from askesis.cli.commands import schedule as command

    command.compare_schedules(
        files or [],
        recipe_path=recipe,
        overrides=override or [],
        steps=steps,
        solver=solver,
        picture=picture,
        json_output=json,
    )
