from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from affinet.cli.jobs.jobfile import parse_job, read_job, refuse_code
from affinet.errors import JobError
from tests.cli.conftest import SMALL, changed

FROM_THE_README = """\
[data]
source = "sklearn:digits"        # or "table.csv" / "table.parquet" with target = "column"
test_fraction = 0.2
[model]
hidden = [64]                    # or factory = "package.module:function"
activation = "relu"
[train]
optimizer = "AdamW"
learning_rate = 1e-3
options = { weight_decay = 0.01 }
epochs = 20
batch_size = 64
seed = 0
[[rule]]
name = "a tie"
says = "hidden1.weight[0, 1] == hidden1.weight[2, 3]"
[[rule]]
name = "A w = b"
weights = ["hidden1.weight", "output.weight"]
matrix = "A.npz"                 # paths are relative to the job file
rhs = "b.npy"                    # or a number
"""


def test_the_form_in_the_documentation_is_a_job() -> None:
    job = parse_job(Path("a/job.toml"), FROM_THE_README)
    assert job.folder == Path("a")
    assert job.job.model.hidden == (64,)
    assert job.job.train.options == {"weight_decay": 0.01}
    assert [rule.name for rule in job.job.rule] == ["a tie", "A w = b"]
    assert job.job.rule[1].weights == ("hidden1.weight", "output.weight")


def test_what_is_left_out_has_the_documented_default() -> None:
    job = parse_job(Path("job.toml"), '[data]\nsource = "sklearn:iris"\n[model]\nhidden = []\n').job
    assert (job.data.test_fraction, job.data.task, job.model.activation, job.rule) == (0.2, None, None, ())
    assert (job.train.optimizer, job.train.learning_rate, job.train.options) == ("AdamW", 1e-3, {})
    assert (job.train.epochs, job.train.batch_size, job.train.seed) == (20, 64, 0)
    assert (job.train.method, job.train.basis) == ("project", None)


def mistake_in(*changes: tuple[str, str]) -> str:
    with pytest.raises(JobError) as caught:
        parse_job(Path("job.toml"), changed(*changes))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "epochs = 3",
            "epohcs = 3",
            "line 12: [train] has no key 'epohcs'. Did you mean 'epochs'? It takes: optimizer,",
        ),
        ("target", "epochs = 4\ntarget", "line 3: [data] has no key 'epochs'. It belongs to [train]."),
        ("[[rule]]", "[ruels]", "line 15: a job file has no key 'ruels'. Did you mean 'rules' or 'rule'? It"),
        ("[[rule]]", "[[rules]]", "line 15: rules = [{'name': 'a tie', 'says': "),
        ("[[rule]]", "[rules]\nthe_tie = 1", "line 16: rules.the_tie = 1 is not valid; it takes a table, [rules]"),
        ("[[rule]]", "[rules]\nmás = 1", 'A line of [rules] is "name" = "rule", both in quotation marks.'),
        ("[[rule]]", '[rules]\na = "w >= 0', 'A line of [rules] is "name" = "rule", both in quotation marks.'),
        ("[[rule]]", '[rules]\n"" = "w == 1"', "line 16: a rule of [rules] has an empty name: a line is"),
        ("[[rule]]", '[rules]\na = "w == 1"\n"a" = "w"', "line 17: two rules have the name 'a', the first in line 16;"),
        ("[[rule]]", '[rules]\n"a tie" = "w == 1"\n[[rule]]', "line 16: rule 1 and a line of [rules] are both named"),
        ("[[rule]]", "[rule]", "line 15: rules are tables opened by [[rule]], with two brackets"),
        ("says =", "sasy =", "line 17: [[rule]] has no key 'sasy'. Did you mean 'says'?"),
        ("epochs = 3", "epochs = 0", "line 12: train.epochs = 0 is not valid; it takes a whole number, 1 or more."),
        ("epochs = 3", "epochs = 2.5", "line 12: train.epochs = 2.5 is not valid"),
        ("epochs = 3", "epochs = true", "line 12: train.epochs = true is not valid"),
        ("epochs = 3", 'epochs = "3"', "line 12: train.epochs = '3' is not valid"),
        ("0.25", "0", "line 4: data.test_fraction = 0 is not valid; it takes a number between 0 and 1, both excluded."),
        ("0.25", "1.0", "line 4: data.test_fraction = 1.0 is not valid"),
        ("0.25", "nan", "line 4: data.test_fraction = nan is not valid"),
        ("0.01", "0", "line 11: train.learning_rate = 0 is not valid; it takes a finite number above 0."),
        ("0.01", "inf", "line 11: train.learning_rate = inf is not valid"),
        ("[5]", "[5, 0]", "line 7: model.hidden[1] = 0 is not valid; it takes a list of whole numbers, each 1 or more"),
        ("[5]", "5", "line 7: model.hidden = 5 is not valid; it takes a list"),
        ("batch_size = 16", "batch_size = 0", "line 13: train.batch_size = 0 is not valid"),
        ("batch_size = 16", "seed = -1", "line 13: train.seed = -1 is not valid; it takes a whole number from 0"),
        (
            "batch_size = 16",
            'method = "penalty"',
            'line 13: train.method = \'penalty\' is not valid; it takes "project", "reparametrize" or "lagrange".',
        ),
        (
            "batch_size = 16",
            'method = "reparametrize"\nbasis = "qr"',
            'line 14: train.basis = \'qr\' is not valid; it takes "orthonormal", "free" or "projection".',
        ),
        ("batch_size = 16", 'paralel = "ddp"', "[train] has no key 'paralel'. Did you mean 'parallel'?"),
        ("batch_size = 16", "parallel = 2", 'line 13: train.parallel = 2 is not valid; it takes "ddp" or "fsdp".'),
        ("batch_size = 16", "options = 3", "line 13: train.options = 3 is not valid; it takes a table of options"),
        ("small.csv", "", "line 2: data.source = '' is not valid"),
        ('source = "small.csv"\n', "", "line 1: [data] lacks the key 'source', which takes"),
        ('target = "kind"\n', 'target = "kind"\ntask = "guess"\n', 'it takes "classification" or "regression".'),
        (
            "hidden = [5]",
            'factory = "mine"',
            "line 7: model.factory = 'mine' is not valid; it takes \"package.module:function\".",
        ),
        (
            'says = "hidden1.weight[0, 1] == hidden1.weight[2, 0]"',
            "says = 3",
            "line 17: says of rule 1 = 3 is not valid",
        ),
        ('"a tie"', '"a tie"\nrhs = [1]', "line 17: rhs of rule 1 = [1] is not valid; it takes a finite number, or a"),
    ],
)
def test_a_mistake_names_the_key_the_line_and_what_is_allowed(old: str, new: str, message: str) -> None:
    assert message in mistake_in((old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "small.csv",
            "sklearn:digit",
            "line 2: there is no built-in data set 'sklearn:digit'. Did you mean 'sklearn:digits'",
        ),
        ("small.csv", "sklearn:iris", "line 3: sklearn:iris brings its own target; remove the key 'target' of [data]."),
        ('target = "kind"', 'target = "kind"\ntask = "regression"', None),
        (
            'target = "kind"\n',
            "",
            "line 1: [data] lacks the key 'target': say which column of small.csv is to be predicted.",
        ),
        ("hidden = [5]", "", "line 6: [model] needs one of two keys: hidden = [64]"),
        ("[5]", '[5]\nfactory = "a:b"', "line 7: [model] has both 'factory' and 'hidden'; the factory decides"),
        ("hidden = [5]", 'factory = "a:b"\nactivation = "relu"', "line 8: [model] has both 'factory' and 'activation'"),
        (
            "batch_size = 16",
            'basis = "free"',
            "line 13: [train] has basis = 'free', and the method is 'project', which does not use a basis; say method",
        ),
        (
            "batch_size = 16",
            'basis = "free"\nmethod = "project"',
            "line 13: [train] has basis = 'free', and the method is 'project'",
        ),
        (
            "hidden = [5]",
            'framework = "jax"\nfactory = "a:b"',
            "line 7: [model] has framework = 'jax' and a factory, which makes a network of torch. Give the sizes of a",
        ),
        (
            "batch_size = 16",
            'parallel = "fsdp"\nmethod = "lagrange"',
            "line 13: [train] has parallel = \"fsdp\", which splits weights over processes, and method = 'lagrange'",
        ),
        (
            'optimizer = "Adam"',
            'optimizer = "LBFGS"\nparallel = "fsdp"',
            'line 11: [train] has parallel = "fsdp", which splits weights over processes, and LBFGS',
        ),
        ("says = ", "# ", 'line 15: rule 1 is empty; it takes one of says = "a rule", sentences = "a file"'),
        ('"a tie"', '"a tie"\nmatrix = "A.npz"', "line 17: rule 1 has 'says' and 'matrix'"),
        ('"a tie"', '"a tie"\nrhs = 0', "line 17: rule 1 has both 'says' and 'rhs'"),
        ("says = ", 'matrix = "A.npz" # ', "line 15: rule 1 has 'matrix' and no 'weights'"),
        ("says = ", 'polynomials = "p.csv" # ', "line 15: rule 1 has 'polynomials' and no 'weights'"),
        ('"a tie"', '"a tie"\nsentences = "rules.txt"', "line 17: rule 1 has 'says' and 'sentences'"),
        (
            "says = ",
            'sentences = "rules.txt"\nweights = ["a"] # ',
            "line 18: rule 1 has both 'sentences' and 'weights'",
        ),
        (
            "says = ",
            'polynomials = "p.csv"\nweights = ["a"]\nrhs = 1 # ',
            "line 19: rule 1 has both 'polynomials' and 'rhs'",
        ),
        (
            "says = ",
            'matrix = "A"\nweights = ["a"]\nrhs_variable = "b" # ',
            "line 19: rule 1 has 'rhs_variable', and its rhs",
        ),
        (
            "[[rule]]",
            '[[rule]]\nname = "a tie"\nsays = "x == 1"\n[[rule]]',
            "line 19: rules 1 and 2 are both named 'a tie'",
        ),
    ],
)
def test_keys_that_are_wrong_together_are_named(old: str, new: str, message: str | None) -> None:
    if message is None:
        assert parse_job(Path("job.toml"), changed((old, new))).job.data.task == "regression"
    else:
        assert f"job.toml, {message}" in mistake_in((old, new))


@pytest.mark.parametrize(
    ("framework", "method", "needed"),
    [("keras", "reparametrize", '"torch" or "jax"'), ("keras", "lagrange", '"torch"'), ("jax", "lagrange", '"torch"')],
)
def test_a_method_that_a_framework_lacks_names_those_that_have_it(framework: str, method: str, needed: str) -> None:
    changes = ("[5]", f'[5]\nframework = "{framework}"'), ("epochs = 3", f'epochs = 3\nmethod = "{method}"')
    assert mistake_in(*changes).endswith(
        f'line 14: method = "{method}" needs framework = {needed}, and [model] has framework = "{framework}". Change '
        f'one of them; method = "project" trains in each framework.'
    )


@pytest.mark.parametrize(("framework", "method"), [("jax", "project"), ("jax", "reparametrize"), ("keras", "project")])
def test_methods_that_frameworks_have(framework: str, method: str) -> None:
    changes = ("[5]", f'[5]\nframework = "{framework}"'), ("epochs = 3", f'epochs = 3\nmethod = "{method}"')
    assert parse_job(Path("job.toml"), changed(*changes)).job.train.method == method


@pytest.mark.parametrize("framework", ["jax", "keras"])
def test_several_processes_need_torch(framework: str) -> None:
    model = ("hidden = [5]", f'hidden = [5]\nframework = "{framework}"')
    message = mistake_in(model, ("batch_size = 16", 'parallel = "ddp"'))
    assert f"line 14: parallel = 'ddp' trains with torch, and [model] has framework = '{framework}'." in message


def test_a_ready_data_set_takes_no_task() -> None:
    text = '[data]\nsource = "sklearn:iris"\ntask = "regression"\n[model]\nhidden = []\n'
    with pytest.raises(JobError, match="line 3: sklearn:iris brings its own task; remove the key 'task'"):
        parse_job(Path("job.toml"), text)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines() -> None:
    told = mistake_in(("epochs = 3", "epochs = 0"), ("target", "tagret")).splitlines()
    assert [re.search(r"line \d+", line)[0] for line in told] == ["line 3", "line 12"]  # type: ignore[index]


def test_a_missing_table_is_named_with_its_keys() -> None:
    with pytest.raises(
        JobError, match=r"job.toml: the table \[model\] is missing. It takes: hidden, activation, factory."
    ):
        parse_job(Path("job.toml"), '[data]\nsource = "sklearn:iris"\n')


def test_rules_without_names_are_called_by_what_they_say_and_may_not_repeat_it() -> None:
    rule = '[[rule]]\nsays = "x == 1"\n'
    with pytest.raises(JobError, match="rules 2 and 3 are both named 'x == 1'; give one of them another 'name'"):
        parse_job(Path("job.toml"), SMALL + rule + rule)


def test_a_toml_mistake_says_where() -> None:
    with pytest.raises(JobError, match=r"job.toml is not a TOML file: .*line 2, column 5"):
        parse_job(Path("job.toml"), "[data]\na = =\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"there is no job file .*none.toml. Give the path of a .toml file"):
        read_job(tmp_path / "none.toml")
    with pytest.raises(JobError, match=r"the job file .* is a folder, not a file. Give the path of a .toml file"):
        read_job(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"\n')
    with pytest.raises(JobError, match=r"latin.toml is not a TOML file: byte 9 is not UTF-8. Save it as UTF-8."):
        read_job(tmp_path / "latin.toml")


def test_a_job_read_from_disk_is_the_job_in_its_text(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(SMALL)
    assert read_job(tmp_path / "job.toml") == parse_job(tmp_path / "job.toml", SMALL)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("\ufeff" + SMALL, encoding="utf-8")
    assert read_job(tmp_path / "job.toml").job.train.epochs == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = " + "[" * 100_000, "its lists or tables are nested more than 20 deep"),
        ("a = " + "[" * 30 + "]" * 30, "its lists or tables are nested more than 20 deep"),
        (".".join("a" * 500_000) + " = 1", "its lists or tables are nested more than 20 deep"),
        ("[" + " . ".join(['"a b"'] * 5_000) + "]", "its lists or tables are nested more than 20 deep"),
        (".".join("a" * 900) + " = 1", "its lists or tables are nested more than 20 deep"),
        ("a = " + "9" * 10_000, "job.toml is not a TOML file: Exceeds the limit"),
        ("[train]\nepochs = 0x" + "f" * 10_000, "it holds an integer of more than 64 bits"),
        ("a = 9223372036854775808", "it holds an integer of more than 64 bits"),
        ('a = "\0"', "job.toml is not a TOML file"),
    ],
    ids=[
        "unclosed lists",
        "lists",
        "dotted keys",
        "dotted headers",
        "deep keys",
        "digits",
        "hexadecimal digits",
        "65 bits",
        "NUL",
    ],
)
def test_what_is_too_deep_or_too_long_to_speak_about(text: str, told: str) -> None:
    with pytest.raises(JobError, match=told):
        parse_job(Path("job.toml"), text)


def test_of_very_many_mistakes_the_first_are_listed() -> None:
    text = "\n".join(f"key{number} = 1" for number in range(5_000)) + "\n" + SMALL
    with pytest.raises(JobError, match=r"line 20: a job file has no key .*\n… and 4,980 more mistakes$") as caught:
        parse_job(Path("job.toml"), text)
    assert str(caught.value).count("\n") == 20


def test_files_that_would_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "long.toml").write_bytes(b"#" * (2**20 + 1))
    for path, told in (
        (tmp_path / "pipe.toml", "is a pipe or a device, not a file"),
        (Path("/dev/zero"), "is a pipe or a device, not a file"),
        (tmp_path / "long.toml", "has 1,048,577 bytes, and at most 1,048,576 are read"),
        (tmp_path / "a\0b.toml", "cannot be read: embedded null byte"),
    ):
        with pytest.raises(JobError, match=rf"the job file .* {told}. Give the path of a .toml file"):
            read_job(path)


def test_a_factory_is_the_one_key_that_runs_code() -> None:
    job = parse_job(Path("job.toml"), changed(("hidden = [5]", 'factory = "mine.nets:wide"')))
    with pytest.raises(JobError, match=r"line 7: the job would import the Python module 'mine.nets' and call its 'wi"):
        refuse_code(job)
    refuse_code(parse_job(Path("job.toml"), SMALL))
