"""`gsm8k-grpo checkpoints`: the list of runs, and removing some of them."""

from pathlib import Path

import pytest
import yaml
from gsm8k_grpo.commands.checkpoints import KEYS_OF_INPUTS, manage_checkpoints
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError, write_json
from gsm8k_grpo.stages.configure.stage import configure
from gsm8k_grpo.stages.train import run_folders
from project import ROOT

RESULTS = Path("results")
CONFIGURED = "results/configure/params.yaml"


def write_run(folder: Path, step: int = 4) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    write_json(checkpoint / "trainer_state.json", {"global_step": step, "max_steps": 12})
    write_json(checkpoint / "manifest.json", {})
    (checkpoint / "model.safetensors").write_bytes(bytes(2**20 * 50))
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """The results that decide which runs resume, in a working folder of their own."""
    monkeypatch.chdir(tmp_path)
    write_json(RESULTS / "extract/train.jsonl", {})
    write_json(RESULTS / "base/base.json", {})
    return RESULTS


@pytest.fixture
def present(data, small) -> Path:
    """The run that variant short resumes from."""
    return write_run(
        run_folders.folder("short", small.of_run("short"), data / "extract/train.jsonl", data / "base/base.json"), 8
    )


def test_other_variables_of_the_chat_template_make_another_run(data, small):
    other = small.model_copy(update={"chat_template_kwargs": {"enable_thinking": False}})
    folders = {
        run_folders.folder("short", params, data / "extract/train.jsonl", data / "base/base.json")
        for params in (small, other)
    }
    assert len(folders) == 2


@pytest.fixture
def others(data) -> list[Path]:
    """A run with other settings, and one of an earlier version."""
    return [write_run(Path("checkpoints/short-0123456789ab")), write_run(Path("scratch/full-0123456789ab"))]


def lines(params: Params) -> dict[str, str]:
    """The line of each folder."""
    listed = manage_checkpoints(RESULTS, params, [], False)
    return {line.split()[0]: line for line in listed}


def test_each_run_is_listed_with_step_size_and_whether_it_resumes(present, others, small):
    listed = lines(small)
    assert listed.keys() == {str(folder) for folder in (present, *others)}
    assert "step 8 of 12  0.05 GiB  resumed" in listed[str(present)]
    assert "step 4 of 12  0.05 GiB  not resumed" in listed[str(others[0])]
    assert "step 4 of 12  0.05 GiB  not resumed: from an earlier version" in listed[str(others[1])]


def test_a_run_is_removed_by_name(present, others, small):
    for folder in others:
        (line,) = manage_checkpoints(RESULTS, small, [folder.name], False)
        assert line.startswith(f"removed {folder} (")
        assert not folder.exists()
    assert present.exists()


def test_every_run_that_does_not_resume_can_be_removed_with_others_by_name(present, others, small):
    manage_checkpoints(RESULTS, small, [], True)
    assert lines(small).keys() == {str(present)}
    manage_checkpoints(RESULTS, small, [present.name], True)
    assert manage_checkpoints(RESULTS, small, [], False) == ["there are no checkpoints"]


def test_without_data_nothing_is_taken_for_old(present, small):
    (RESULTS / "extract/train.jsonl").unlink()
    assert "unknown" in lines(small)[str(present)]
    with pytest.raises(PipelineError, match=r"^--remove-old: .*results/extract"):
        manage_checkpoints(RESULTS, small, [], True)
    assert present.exists()


def test_an_unknown_name_is_an_error_that_lists_the_names(present, others, small):
    with pytest.raises(PipelineError, match=rf"^--remove shrot: choose from .*{present.name}"):
        manage_checkpoints(RESULTS, small, ["shrot"], False)


def test_only_folders_with_the_name_and_the_content_of_a_run_are_removed(present, others, small):
    kept = [Path("scratch/my-notes"), Path("scratch/thesis-2024"), Path("checkpoints/short-of-last-week")]
    for folder in kept:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    (others[0] / "notes.txt").write_text("mine")
    assert lines(small).keys() == {str(folder) for folder in (present, *others)}
    said = manage_checkpoints(RESULTS, small, [], True)
    assert [line.split()[:2] for line in said] == [["removed", str(others[1])], ["left", f"{others[0]},"]]
    assert "notes.txt" in said[1]
    assert all((folder / "notes.txt").read_text() == "mine" for folder in (*kept, others[0]))
    with pytest.raises(PipelineError, match=rf"^{others[0]}: holds notes\.txt, "):
        manage_checkpoints(RESULTS, small, [others[0].name], False)


def test_links_are_not_followed(data, small, tmp_path):
    elsewhere = write_run(tmp_path / "elsewhere")
    Path("checkpoints").mkdir()
    Path("checkpoints/short-0123456789ab").symlink_to(elsewhere)
    Path("checkpoints/full-0123456789ab").symlink_to("nowhere")
    assert manage_checkpoints(RESULTS, small, [], True) == ["nothing to remove"]
    assert (elsewhere / "checkpoint-4/model.safetensors").exists()


def test_nothing_is_taken_for_old_while_the_results_are_of_another_configuration(present, others, small):
    configure(RESULTS / "configure", small.model_copy(update={"seed": 8}))
    assert "unknown" in lines(small)[str(present)]
    with pytest.raises(PipelineError, match=r"^--remove-old: .*another configuration \(seed was 8\)"):
        manage_checkpoints(RESULTS, small, [], True)
    configure(RESULTS / "configure", small.model_copy(update={"threads": small.threads, "keep_checkpoints": [3]}))
    manage_checkpoints(RESULTS, small, [], True)
    assert lines(small).keys() == {str(present)}


def test_data_and_base_depend_on_the_keys_of_their_stages():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    keys = {key for stage in ("download", "extract", "base") for key in stages[stage]["params"][0][CONFIGURED]}
    assert {key.partition(".")[0] for key in keys} - {"evaluate"} == set(KEYS_OF_INPUTS)
