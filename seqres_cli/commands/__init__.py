"""One file a command; each exports `COMMAND`. Importing them loads no stage."""

from __future__ import annotations

from seqres_cli.commands import (
    evaluate,
    export_weights,
    import_weights,
    inspect,
    predict,
    prepare_data,
    pseudo_label,
    refine_masks,
    reproduce,
    resample_points,
    split_masks,
    train_rec,
    train_res,
    verify,
    visualize_attention,
)
from seqres_cli.stage_command import PlainCommand, StageCommand

COMMANDS: dict[str, StageCommand | PlainCommand] = {
    module.COMMAND.name: module.COMMAND
    for module in (
        prepare_data,
        split_masks,
        train_rec,
        train_res,
        pseudo_label,
        refine_masks,
        resample_points,
        evaluate,
        visualize_attention,
        predict,
        reproduce,
        import_weights,
        export_weights,
        inspect,
        verify,
    )
}

# the tables that a configuration file may have
STAGES = tuple(name for name, command in COMMANDS.items() if isinstance(command, StageCommand))
