from nndl_suite.representation.study_rows import study_rows


def test_every_method_on_every_set_and_what_they_are_measured_against():
    rows = study_rows(("simclr", "byol"), ("cifar10", "stl10"), "cifar100", (32, 64))
    assert [row.name for row in rows] == [
        "simclr on cifar10",
        "byol on cifar10",
        "simclr on stl10",
        "byol on stl10",
        "imagenet at 32 px",
        "imagenet at 64 px",
        "random",
        "scratch",
    ]
    assert len({row.folder for row in rows}) == 8
    assert [row.resolution for row in rows[4:6]] == [32, 64]
    assert (rows[-1].method, rows[-1].dataset) == ("supervised", "cifar100")
    assert [row.name for row in study_rows(("simclr",), ("demo",), "demo", ())][1] == "imagenet"


def test_paths_are_shortened_unless_two_look_alike():
    short = study_rows(("simclr",), ("arrays:/data/leaves.npz", "folder:photos/"), "demo", ())
    assert [row.name for row in short[:2]] == ["simclr on leaves", "simclr on photos"]
    alike = study_rows(("simclr",), ("arrays:a/leaves.npz", "arrays:b/leaves.npz"), "demo", ())
    assert [row.folder for row in alike[:2]] == ["simclr-arrays-a-leaves.npz", "simclr-arrays-b-leaves.npz"]
    assert study_rows(("simclr",), ("folder:.",), "demo", ())[0].folder == "simclr-folder-."
