"""Progress stands in a log, too, and not too often."""

from pipeline.cli.common import console


def test_without_a_terminal_a_line_now_and_then_has_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.Bar("Preparing clips") as bar:
        for done in range(1, 151):
            now[0] += 1
            bar.update(done, 600)
    assert capsys.readouterr().err.splitlines() == [
        "Preparing clips: 60 of 600, about 9 min left",
        "Preparing clips: 120 of 600, about 8 min left",
    ]
