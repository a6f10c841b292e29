"""A node of iceoryx2 whose files and shared memory go with the benchmark, whatever way it ends."""

import iceoryx2 as iox2


def make(folder: str, plant: str) -> iox2.Node:
    """A node with its files below the folder of a `harness.Site`, and named so that its janitor removes the
    shared memory with the plant's."""
    iox2.set_log_level(iox2.LogLevel.Error)
    settings = iox2.config.default()
    settings.global_cfg.root_path = iox2.Path.new(f"{folder}/iceoryx2")
    settings.global_cfg.prefix = iox2.FileName.new(f"tp.{plant}.iox2_")
    builder = iox2.NodeBuilder.new().config(settings)
    return builder.signal_handling_mode(iox2.SignalHandlingMode.Disabled).create(iox2.ServiceType.Ipc)
