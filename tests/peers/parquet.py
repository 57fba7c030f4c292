"""Adds frames to an archive, exports its table, and reads it back with DuckDB: argument 1 is the dc-encoder program."""

import json
import pathlib
import subprocess
import sys
import tempfile

import duckdb

program = sys.argv[1]
model = pathlib.Path(__file__).parents[2] / "dc-encoder/models/demo"


def run(*args):
    return subprocess.run([program, *map(str, args)], check=True, capture_output=True, text=True).stdout


with tempfile.TemporaryDirectory() as work:
    work = pathlib.Path(work)
    ffmpeg = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x192:rate=5:duration=4"]
    subprocess.run([*ffmpeg, work / "%03d.jpg"], check=True)
    pictures = sorted(work.glob("*.jpg"))
    # The first camera's frames have labels and embeddings, the second one's have none.
    with open(work / "labels.jsonl", "w", encoding="utf-8") as labels:
        for number, picture in enumerate(pictures):
            row = {"file": picture.name, "captured_at": f"2026-06-01T12:00:{number:02}.5Z", "count": number % 7}
            labels.write(json.dumps(row) + "\n")
    at = ["--archive", work / "archive"]
    run("archive", "add", *at, "--camera", "plaza-1", "--frames", work / "labels.jsonl", "--task", "count")
    run("archive", "add", *at, "--camera", "plaza-2", "--frames", work, "--zone", "+02:00")
    run("archive", "embed", *at, "--camera", "plaza-1", "--model", model)
    out = work / "table.parquet"
    run("archive", "export", *at, "--task", "count", "--format", "parquet", "--out", out)
    found = [json.loads(line) for line in run("archive", "find", *at, "--limit", "0", "--json").splitlines()]

    table = duckdb.sql(f"SELECT * FROM '{out}'")
    print(table.columns, table.types)
    rows = {row[0]: dict(zip(table.columns, row)) for row in table.fetchall()}
    assert len(rows) == len(found) == 2 * len(pictures), (len(rows), len(found))
    for record in found:
        row = rows[record["id"]]
        assert row["camera"] == record["camera"] and row["path"] == record["path"], (row, record)
        assert row["sha256"] == record["sha256"] and row["zone"] == record["zone"]
        said = record["labels"][0]["answer"]["count"]["value"] if record["labels"] else None
        assert row["label"] == said and row["people"] == len(record["labels"]), (row["label"], said)
        assert len(row["embedding"]) == (512 if record["camera"] == "plaza-1" else 0)
    labelled = duckdb.sql(f"SELECT count(label), min(captured_at), max(len(embedding)) FROM '{out}' WHERE camera = 'plaza-1'")
    [(count, first, longest)] = labelled.fetchall()
    assert count == len(pictures) and longest == 512 and str(first).startswith("2026-06-01"), (count, first, longest)
    print(f"DuckDB {duckdb.__version__} read {len(rows)} rows back as they are in the archive")
