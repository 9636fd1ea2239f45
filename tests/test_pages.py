"""Parts of pages that follow from the ledger."""

from nvp_book.pages import COLOUR, progress, sheets

from nvp.ledger.entry import runs


def test_samples_in_colour_stand_beside_real_images() -> None:
    pictured = runs()["quickstart"]
    shown = sheets(dict.fromkeys(COLOUR, pictured))
    assert shown.index("quickstart/real.png") < shown.index("quickstart/samples.png")
    assert shown.count("quickstart/samples.png") == len(COLOUR)


def test_the_page_prints_what_training_printed() -> None:
    run = runs()["binarized-mnist-diagonal-1"]
    shown = progress(run, minutes=(0, 1000))
    assert shown.count(f"{run.name}: step") == 2
    assert f"step {run.record.steps} " in shown
    assert "1:20:00 gone, 0:00:00 to go" in " ".join(shown.split())
