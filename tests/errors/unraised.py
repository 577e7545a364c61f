"""The places that raise and need no case, by the beginning of their key, and why."""

from __future__ import annotations

NO_CASE = {
    "cli/files/arrays.py ": "becomes the DataError of a file that is not readable; tests/cli raises each",
    "cli/files/market.py ": "becomes the DataError of a file that is not readable; tests/cli raises each",
    "cli/files/keras_layers.py ": "raised in a process of its own, and again by hdf_process.py, which has a case",
    "cli/files/hdf_process.py HdfProcess.numbers: raise self._unreadable(": "the process was ended from outside",
    "cli/files/flax_weights.py ": "becomes the ModelFileError of a damaged file; tests/cli raises each",
    "system/matlab.py ": "becomes the DataError of a file that is not readable; tests/cli raises each",
    "system/sparse_checks.py with_checked_indices: raise ValueError(f'an index": (
        "scipy has looked; a second look costs little, and a wrong index writes beyond memory"
    ),
    "language/expression.py Expression.__getattr__: raise AttributeError(name)": "asked for by copy and pickle",
    "language/weights.py Modules.__getattr__: raise AttributeError(name)": "asked for by copy and pickle",
    "language/weight_groups.py WeightGroup.__getattr__: raise AttributeError(name)": "asked for by copy and pickle",
    "language/weights.py Weights.__getattr__: raise AttributeError(name)": "asked for by copy and pickle",
    "cli/commands.py affinet: raise typer.Exit": "the exit status of --version",
    "cli/commands.py verify: raise typer.Exit": "an exit status",
    "cli/commands.py _exit_statuses: raise typer.Exit": "exit statuses of errors that have a case",
    "cli/main.py _run: raise SystemExit": "exit statuses",
    "cli/trainings/torch/tensor_snapshot.py put_back_ruled: ": (
        "becomes the RunError of a damaged checkpoint; tests/cli/trainings raises it"
    ),
    "cli/trainings/array_training.py ArrayTraining.restore: ": (
        "becomes the RunError of a damaged checkpoint; tests/integrations raises it"
    ),
    "cli/trainings/first_network.py restore_random: ": (
        "becomes the RunError of a damaged checkpoint; tests/cli/trainings raises it"
    ),
    "planning/elimination/irregular.py check_consistent: ": (
        "more than 512 connected equations beside inequalities; the refusal is that of equations alone"
    ),
    "planning/inequalities/feasibility.py ": "becomes the Contradiction of solving.py, which has cases",
    "adapters/keras_": "where Keras is installed; tests/integrations raises each",
    "kernels/tensorflow/": "asks whether a law runs in a graph; tests/integrations trains with laws that do not",
    "kernels/jax/": "where JAX is installed; tests/integrations raises each",
    "kernels/traced/block_law.py _Entries._nearest: ": "both kinds of laws have the verb",
    "cli/trainings/jax/": "where JAX is installed; tests/integrations raises each",
    "adapters/optax_": "where JAX is installed; tests/integrations raises each",
    "cli/trainings/torch/joined_processes.py JoinedProcesses.agree: ": "processes differ; tests/shards raises it",
    "cli/trainings/torch/joined_processes.py JoinedProcesses.check_b": "processes differ; tests/shards raises it",
    "cli/trainings/torch/process_group.py joined: raise Already": "one of several processes; tests/shards raises it",
    "training/process_meeting.py meet: ": "processes make other calls or none; tests/shards raises each",
    "training/process_agreement.py _check: ": "processes differ; tests/shards raises each",
    "training/process_meeting.py check_within_reach: raise AttachError(f'{name} is held": (
        "a mesh without this process; tests/shards raises it"
    ),
    "training/sharded_numbers.py ": "numbers of several processes; tests/shards raises each",
    "training/stale_optimizers.py _before_step: raise AttachError(f'this {kind} was made before fully_shard": (
        "numbers of several processes; tests/shards raises it"
    ),
    "kernels/torch/shards/held_box.py ": "a placement over several processes; tests/shards raises it",
    "kernels/naming_rules.py ": "raises again what a case shows: contextlib takes the line out of the traceback",
    "training/probing.py ": "caught where an optimizer is probed: what could not be learnt is a warning of its own",
    "analysis/summary.py _bytes: raise AssertionError": "a loop that always returns",
}
