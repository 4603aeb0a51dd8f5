"""Files that are complete or as they were."""

import pytest

from keras_deconv import _files


def test_a_file_is_complete_or_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def fail():
        with _files.replaced(path) as part:
            part.write_text("half")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert path.read_text() == "before"
    with _files.replaced(path) as part:
        assert part.name == path.name
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]
