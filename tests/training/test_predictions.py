import numpy as np
import pytest

from nndl_suite.errors import RunError
from nndl_suite.training.predictions import Predictions, read_predictions, write_predictions


def test_there_and_back(tmp_path):
    written = Predictions(predicted=np.array([2, 0, 1]), labels=np.array([2, 1, 1]))
    write_predictions(tmp_path, written)
    read = read_predictions(tmp_path)
    np.testing.assert_array_equal(read.predicted, written.predicted)
    np.testing.assert_array_equal(read.correct, [True, False, True])
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.npz"]


def test_missing_damaged_or_not_fitting(tmp_path):
    with pytest.raises(RunError, match="missing or damaged"):
        read_predictions(tmp_path)
    (tmp_path / "predictions.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(RunError, match="missing or damaged"):
        read_predictions(tmp_path)
    np.savez(tmp_path / "predictions.npz", predicted=np.array([{}], dtype=object), labels=np.array([1]))
    with pytest.raises(RunError, match="missing or damaged"):  # nothing is unpickled
        read_predictions(tmp_path)
    np.savez(tmp_path / "predictions.npz", predicted=np.array([1, 2]), labels=np.array([1]))
    with pytest.raises(RunError, match="run that again"):
        read_predictions(tmp_path)


def test_no_changed_bit_and_no_cut_is_taken_for_a_prediction(tmp_path):
    written = Predictions(predicted=np.arange(40), labels=np.arange(40)[::-1])
    write_predictions(tmp_path, written)
    file = tmp_path / "predictions.npz"
    content, refused = file.read_bytes(), []
    flipped = [content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :] for i in range(0, len(content), 5)]
    for damaged in [*flipped, *(content[:keep] for keep in range(0, len(content), 101))]:
        file.write_bytes(damaged)
        try:
            read = read_predictions(tmp_path)
        except RunError as error:
            refused.append(str(error))
        else:
            np.testing.assert_array_equal(read.predicted, written.predicted)
            np.testing.assert_array_equal(read.labels, written.labels)
    assert len(refused) > 0.5 * len(flipped)
    assert all(str(file) in told for told in refused)
