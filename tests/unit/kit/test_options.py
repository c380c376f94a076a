"""Flags say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from bamikube.kit.options import Options, parse_options


class Sample(Options):
    """A sample service."""

    etcd_servers: list[str] = Field(description="where etcd is")
    secure: bool = Field(True, description="a switch")
    port: int = Field(1, ge=1, le=10, description="a number")
    labels: dict[str, str] = Field(default_factory=dict, description="a map")
    patience: float = Field(1.0, ge=0, description="seconds")


def test_lists_booleans_numbers_and_maps() -> None:
    got = parse_options(
        Sample, ["--etcd-servers=a,b", "--secure=false", "--port", "3", "--labels=x=1,y="], "t"
    )
    assert (got.etcd_servers, got.secure, got.port, got.labels) == (["a", "b"], False, 3, {"x": "1", "y": ""})
    assert parse_options(Sample, ["--etcd-servers=a", "--secure"], "t").secure is True
    again = [
        "--etcd-servers=a",
        "--etcd-servers",
        "b,c",
        "--labels=x=1",
        "--labels=y=2",
        "--port=1",
        "--port=2",
    ]
    got = parse_options(Sample, again, "t")
    assert (got.etcd_servers, got.labels, got.port) == (["a", "b", "c"], {"x": "1", "y": "2"}, 2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h30m0s", 5400.0), ("1.5s", 1.5), ("500ms", 0.5), ("2", 2.0), ("0.25", 0.25), ("0s", 0.0)],
)
def test_seconds_as_go_writes_durations(text: str, seconds: float, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"etcd-servers: [z]\npatience: {text}\n")
    assert parse_options(Sample, ["--etcd-servers=a", f"--patience={text}"], "t").patience == seconds
    assert parse_options(Sample, ["--config", str(file)], "t").patience == seconds


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("etcd-servers: [z]\nport: 5\n")
    got = parse_options(Sample, ["--config", str(file), "--port=6"], "t")
    assert (got.etcd_servers, got.port) == (["z"], 6)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--etcd-servers: this flag is required"),
        (["--etcd-servers=a", "--patience=1 h"], "--patience: Input should be a valid number"),
        (["--etcd-servers=a", "--port=11"], "--port:"),
        (["--etcd-servers=a", "--nope"], "--nope"),
        (["--config=/does/not/exist"], "/does/not/exist"),
    ],
)
def test_bad_input_names_the_flag(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(Sample, argv, "bamikube-sample")
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
