"""`make ui`: MLflow's interface starts, and listens only on this machine's own address."""

import urllib.request

from mlflow_ui import PATIENCE, interface, listening

PORT = 5000


def test_the_interface_starts_in_a_folder_of_any_name_and_listens_only_on_this_machine(tmp_path):
    folder = tmp_path / "it's a ü & b?c $HOME"
    (folder / "tracking").mkdir(parents=True)
    with interface(folder, PORT):
        assert listening(PORT) == {"127.0.0.1"}
        assert b"MLflow" in urllib.request.urlopen(f"http://127.0.0.1:{PORT}", timeout=PATIENCE).read()
        assert (folder / "tracking/mlflow.db").stat().st_size > 0
