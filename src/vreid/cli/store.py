"""Command group `store`: describe, copy, back up, thin out and verify a store."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.extras import require_extras
from vreid.cli.options import Device, Json, print_json, resolve
from vreid.console import echo
from vreid.errors import InputError
from vreid.formatting import plural

if TYPE_CHECKING:
    from vreid.store.interface import VectorStore

group = typer.Typer(
    help="Look after a store of tracklets: describe, copy, back up, delete what is old, verify.", no_args_is_help=True
)
StoreAddress = Annotated[
    str,
    typer.Argument(metavar="STORE", help="A folder, or a Milvus server: http://HOST:19530?collection=NAME."),
]
Folder = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of an embedded store.")]


@group.command("info")
def info(store: StoreAddress, as_json: Json = False) -> None:
    """Show what a store holds: tracklets, crops, cameras, the model of its features, its size."""
    with closing(_open(store, read_only=True)) as engine:
        found = asdict(engine.info())
        found["cameras"] = len(engine.documents("camera/"))
    if as_json:
        print_json(found)
        return
    echo(f"{found['uri']}: {plural(found['tracklets'], 'tracklet')} with {plural(found['crops'], 'crop')}")
    echo(f"  engine      {found['engine']} {found['version']}")
    echo(f"  features    {found['dimensions']} dimensions of {found['model'] or 'an unknown model'}")
    echo(f"  cameras     {found['cameras']} described")
    if found["size"] >= 0:
        echo(f"  on disk     {_megabytes(found['size'])}")


@group.command("copy")
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder or address of the store to copy.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Folder or address of an empty or new store.")],
    as_json: Json = False,
) -> None:
    """Copy a store, also from one engine to the other; run again, an interrupted copy continues."""
    from vreid.progress_bars import ProgressBars
    from vreid.store.engines import open_vectors
    from vreid.store.maintenance import copy_store

    with closing(_open(source, read_only=True)) as theirs:
        _require(target)
        with (
            ProgressBars(quiet=as_json) as bars,
            closing(
                open_vectors(target, dimensions=theirs.dimensions, model=theirs.model, create=True, on_note=_note)
            ) as ours,
        ):
            copied = copy_store(theirs, ours, bars)
            total = ours.count()
    if as_json:
        print_json({"copied": copied, "tracklets": total})
    else:
        echo(f"Copied {plural(copied, 'tracklet')} to {target}, which now holds {total:,}.")


@group.command("embed")
def embed(
    store: Folder,
    model: Annotated[str, typer.Option(help="default, a run folder, or a .safetensors or .onnx file.")],
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Compute all features of a store again with another model; killed at any moment, the store is old or new."""
    from vreid.inference.embedder import load_model
    from vreid.progress_bars import ProgressBars
    from vreid.store.adapt_store import embed_store

    embedder = load_model(model, device=resolve(device))
    with ProgressBars(quiet=as_json) as bars:
        tracklets = embed_store(store, embedder, model, progress=bars)
    if as_json:
        print_json({"tracklets": tracklets, "model": embedder.made_by})
    else:
        echo(f"{store}: the features of {plural(tracklets, 'tracklet')} are those of {embedder.made_by} now.")


@group.command("snapshot")
def snapshot(
    store: Folder,
    out: Annotated[Path, typer.Option(help="File to write.")],
    as_json: Json = False,
) -> None:
    """Back up an embedded store to one file with a hash, while others use it."""
    from vreid.store.snapshots import write_snapshot

    size = write_snapshot(store, out)
    if as_json:
        print_json({"snapshot": str(out), "size": size})
    else:
        echo(f"Wrote {out}, {_megabytes(size)}.")


@group.command("restore")
def restore(
    snapshot: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="File that `vreid store snapshot` wrote.")],
    store: Folder,
    force: Annotated[bool, typer.Option("--force", help="Replace the store that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Make a store from a snapshot, after checking the snapshot's hash."""
    from vreid.store.snapshots import restore_snapshot

    restore_snapshot(snapshot, store, force=force)
    with closing(_open(str(store), read_only=True)) as engine:
        count = engine.count()
    if as_json:
        print_json({"store": str(store), "tracklets": count})
    else:
        echo(f"Restored {store} with {plural(count, 'tracklet')}.")


@group.command("prune")
def prune_command(
    store: StoreAddress,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="PERIOD", help="Age of the end of a tracklet: 30d, 12h or 2w.")
    ],
    camera: Annotated[list[str] | None, typer.Option(help="Delete from this camera only; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete tracklets and crops older than a period and give their space back; those without a time stay."""
    from vreid.progress_bars import ProgressBars
    from vreid.store.maintenance import prune, seconds_of

    age = seconds_of(older_than)
    with closing(_open(store, read_only=dry_run)) as engine, ProgressBars(quiet=as_json) as bars:
        done = prune(engine, age, cameras=camera or (), dry_run=dry_run, progress=bars)
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    space = f" {_megabytes(done.bytes)} returned to the disk." if done.bytes > 0 else ""
    what = f"{plural(done.tracklets, 'tracklet')} with {plural(done.crops, 'crop')}"
    echo(f"{what} would be deleted." if dry_run else f"Deleted {what}.{space}")
    if done.without_time:
        echo(f"{plural(done.without_time, 'tracklet')} without a time stayed.")


@group.command("delete")
def delete(
    store: Folder,
    case: Annotated[
        int | None, typer.Option(min=1, help="Number of a case: its confirmed tracklets, and the case itself.")
    ] = None,
    tracklet: Annotated[list[str] | None, typer.Option(help="Id of a tracklet; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a vehicle: tracklets with their crops, and decisions, sightings and watches of them."""
    from vreid.serve.audit import FILE, AuditLog
    from vreid.serve.cases import CaseBook
    from vreid.serve.deletion import Deleted, delete_tracklets, delete_vehicle
    from vreid.serve.live import WatchList
    from vreid.serve.service import Service
    from vreid.serve.settings import ServeConfig
    from vreid.store.store import Store

    if (case is None) == (not tracklet):
        raise InputError("say what to delete: either --case NUMBER or --tracklet ID.")
    with Store.open(store, read_only=dry_run) as opened:
        service, cases = Service(opened, ServeConfig()), CaseBook(opened.vectors)
        watches = WatchList(service)
        vehicle = cases.get(case) if case is not None else None
        names = vehicle.confirmed if vehicle else list(tracklet or ())
        found = {str(name) for name in opened.vectors.fetch(names).id}
        if vehicle is None and (missing := sorted(set(names) - found)):
            raise InputError(f"{store}: holds no tracklet {missing[0]!r}; check its id.")
        if dry_run:
            done = Deleted(len(found), 0)
        else:
            with closing(AuditLog(store / FILE)) as log:
                log.append("command line", "", "delete", {"case": case, "tracklets": names})
            parts = (service, cases, watches)
            done = delete_vehicle(vehicle, *parts) if vehicle else delete_tracklets(names, *parts)
    if as_json:
        print_json({**done._asdict(), "case": case, "dry_run": dry_run})
        return
    what = plural(done.tracklets, "tracklet")
    echo(f"{what} would be deleted." if dry_run else f"Deleted {what} and {plural(done.watches, 'watch', 'watches')}.")


@group.command("export")
def export(
    store: StoreAddress,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    vectors: Annotated[bool, typer.Option(help="With the features.")] = True,
    as_json: Json = False,
) -> None:
    """Write the tracklets as Parquet, for pandas, other vector databases and GIS."""
    from vreid.store.store import Store

    require_extras("parquet")
    with Store.open(store, read_only=True) as opened:
        count = len(opened)
        opened.to_parquet(out, vectors=vectors)
    if as_json:
        print_json({"file": str(out), "tracklets": count})
        return
    echo(f"{out}: {plural(count, 'tracklet')}")


@group.command("compact")
def compact(store: StoreAddress, as_json: Json = False) -> None:
    """Give the space of deleted tracklets back to the disk; needs twice the store's size in free space to do all."""
    with closing(_open(store)) as engine:
        freed = engine.compact(rewrite=True)
        size = engine.info().size
    if as_json:
        print_json({"bytes": freed, "size": size})
    elif freed < 0:
        echo("The server compacts the store in the background.")
    else:
        echo(f"{_megabytes(freed)} returned to the disk; the store now takes {_megabytes(size)}.")


@group.command("verify")
def verify_command(store: StoreAddress, as_json: Json = False) -> None:
    """Read everything in a store and list what is damaged. Exits 1 if problems are found."""
    from vreid.progress_bars import ProgressBars
    from vreid.store.maintenance import verify

    with closing(_open(store, read_only=True)) as engine, ProgressBars(quiet=as_json) as bars:
        count = engine.count()
        problems = verify(engine, bars)
    if as_json:
        print_json({"tracklets": count, "problems": problems})
    else:
        for problem in problems:
            echo(problem)
        echo(f"{plural(count, 'tracklet')} verified, {plural(len(problems), 'problem')}.")
    if problems:
        raise typer.Exit(1)


def _open(store: str, *, read_only: bool = False) -> VectorStore:
    from vreid.store.engines import open_vectors

    _require(store)
    return open_vectors(store, read_only=read_only, on_note=_note)


def _require(store: str) -> None:
    from vreid.store.engines import is_server

    if is_server(store):
        require_extras("milvus")


def _note(sentence: str) -> None:
    echo("vreid:", sentence, file=sys.stderr)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
