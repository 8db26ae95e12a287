"""`omaha-mirror demo`: a site in small, on this computer, told as it happens."""

import click


@click.command()
def demo() -> None:
    """Try a mirror with a made-up upstream and machines.

    All of it is real HTTP on 127.0.0.1, and takes a few seconds. Nothing leaves this computer, and nothing is kept.
    """
    import asyncio
    import os
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from omaha_mirror.cli.demo_story import RATE, DemoFailed, run_demo
    from omaha_mirror.observability.telemetry import begin_to_queue, set_up_logging

    begin_to_queue()
    set_up_logging("console", "error")
    click.echo(
        "A release server, a mirror and five machines, all on this computer and in real HTTP."
    )
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        with TemporaryDirectory(prefix="omaha-mirror-demo-") as folder:
            asyncio.run(run_demo(Path(folder), RATE))
    except BrokenPipeError:
        raise
    except (OSError, DemoFailed) as error:
        raise click.ClickException(str(error)) from None
