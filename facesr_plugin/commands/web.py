"""Open a page in the browser to enlarge pictures, on this machine alone.

    facesr web
    facesr web --port 8000 --no-browser

Drop, paste or choose pictures, compare before and after, download the results. Ctrl-C ends it; nothing is kept.
"""

import argparse

from facesr_plugin.command_line import Parser
from facesr_plugin.commands.network_options import add_network_options, chosen_dial
from facesr_plugin.enlarge.choices import DEVICE_HELP, device_name
from facesr_plugin.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Open a page in the browser to enlarge pictures, on this machine alone. Ctrl-C ends it.')
    parser.add_argument('--port', type=int, default=7860, help='where the page is, at 127.0.0.1; 0 takes a free one')
    parser.add_argument('--no-browser', action='store_true', help='open no browser; the address is printed')
    parser.add_argument('--megapixels', type=float, default=16, help='largest picture that the page takes')
    add_network_options(parser)
    parser.add_argument('--device', type=device_name, default='auto', help=DEVICE_HELP)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: An option or the checkpoint is not as expected, or the port is taken.
    """
    args = build_parser().parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise UserError(f'--port: 0 to 65535 expected, got {args.port}')
    if not args.megapixels > 0:
        raise UserError(f'--megapixels: above 0 expected, got {args.megapixels:g}')
    from facesr_plugin.web.folder import ended_by_signals, own_folder

    with ended_by_signals(), own_folder() as folder:
        from facesr_plugin.enlarge.network import pick_device
        from facesr_plugin.run.memory import keep_freed_memory
        from facesr_plugin.web.server import listen, serve  # Gradio, which looks for its folder when it is imported

        keep_freed_memory()
        listener = listen(args.port)
        dial = chosen_dial(args, pick_device(args.device))
        serve(dial, folder, listener, args.megapixels, not args.no_browser, args.natural)
