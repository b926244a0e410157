"""What a person sees: a Gradio page for one queue of pictures at a time, in each tab of its own."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from facesr_plugin.enlarge.network import Dial
from facesr_plugin.pictures.formats import WRITTEN
from facesr_plugin.web.words import status, summary, told
from facesr_plugin.web.work import Event, Failed, Queue, Result, Settings, Step, Waits

HERE = Path(__file__).parent
SCALES = (1, 1.5, 2, 3, 4)
SAME = 'as the picture'
HIDDEN = 'hidden'  # there all the time: what appears later loads code, and an update meanwhile can be lost
Updates = dict[Any, Any]


@dataclass(eq=False)
class Tab:
    """What one browser tab has asked for.

    Attributes:
        queue: Its pictures.
        done: What came of each so far.
        shown: Number of the result that is shown, from 1.
    """

    queue: Queue
    done: list[Result | Failed] = field(default_factory=list)
    shown: int = 1

    @property
    def results(self) -> list[Result]:
        """The pictures that could be enlarged."""
        return [each for each in self.done if isinstance(each, Result)]


class WebPage:
    """The page and what it keeps of each tab.

    Args:
        dial: The networks, on the device that is to work; of one of two stages the page shows a slider.
        folder: Where results go, below Gradio's own folder.
        megapixels: Largest picture that is taken.
        megabytes: Largest file that is taken.
        natural: Where that slider stands at first.
    """

    def __init__(self, dial: Dial, folder: Path, megapixels: float, megabytes: int, natural: float = 0) -> None:
        self.dial, self.natural, self.folder = dial, natural, folder
        self.megapixels, self.megabytes = megapixels, megabytes
        self.tabs: dict[str, Tab] = {}
        self.running: list[Tab] = []
        self.count = 0
        self.changing, self.turn = threading.Lock(), threading.Semaphore()

    # ------------------------------------------------------------------ what is seen
    def blocks(self) -> gr.Blocks:
        """Build the page."""
        limits = f'{self.megapixels:g} megapixels and {self.megabytes} MB'
        with gr.Blocks(title='facesr', analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML(
                '<h1>Enlarge pictures of faces</h1><p>All of it happens on this machine: no picture leaves it, and '
                'none is kept when the command ends.</p>',
                elem_id='head',
                padding=False,
            )
            with gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=300):
                    self.files = gr.File(
                        label='Pictures',
                        file_count='multiple',
                        height=200,
                        elem_id='files',
                    )
                    gr.HTML(
                        f'<p>Drop, choose or paste (Ctrl+V) several at once; each up to {limits}.</p>'
                        f'<p role="alert" class="wrong" data-bytes="{self.megabytes * 10**6}"></p>',
                        elem_id='limits',
                        padding=False,
                    )
                    self.part = gr.Radio(
                        [('Faces', True), ('Whole picture', False)],
                        value=True,
                        label='What the network enlarges',
                        info='Faces: each is found, enlarged on its own and put back; the rest is enlarged plainly.',
                    )
                    factors = [factor for factor in SCALES if factor <= self.dial.net.upscale]
                    self.scale = gr.Radio(
                        [(f'{factor:g}x', factor) for factor in factors], value=factors[-1], label='Scale'
                    )
                    self.strength = gr.Slider(
                        0, 1, 1, step=0.05, label='Strength', info="The network's part; the rest is plain enlarging."
                    )
                    self.place = gr.Slider(
                        0,
                        1,
                        self.natural,
                        step=0.05,
                        label='Natural',
                        info='0: faithful to what the picture shows. 1: sharp, and partly made up.',
                        visible=self.dial.natural is not None,
                    )
                    self.kind = gr.Radio([SAME, *WRITTEN], value=SAME, label='Format')
                    with gr.Row():
                        self.start = gr.Button('Enlarge', variant='primary', min_width=100, elem_id='start')
                        self.stop = gr.Button('Stop', interactive=False, min_width=100, elem_id='stop')
                with gr.Column(scale=3, min_width=300):
                    self.status = gr.HTML(status(), elem_id='status', padding=False)
                    self.shown = gr.Dropdown(label='Shown', visible=HIDDEN, elem_id='shown')
                    self.slider = gr.ImageSlider(
                        label='Before and after',
                        type='filepath',
                        interactive=False,
                        buttons=['fullscreen'],
                        max_height=640,
                        visible=HIDDEN,
                        elem_id='slider',
                    )
                    self.faces = gr.Gallery(
                        label='Faces: as found, and enlarged',
                        columns=2,
                        height='auto',
                        object_fit='contain',
                        buttons=['fullscreen'],
                        interactive=False,
                        visible=HIDDEN,
                        elem_id='faces',
                    )
                    self.downloads = gr.File(
                        label='Results, to download',
                        file_count='multiple',
                        interactive=False,
                        visible=HIDDEN,
                        elem_id='results',
                    )
            hidden: dict[str, Any] = {'show_progress': 'hidden', 'api_visibility': 'private'}
            outputs = [self.status, self.shown, self.slider, self.faces, self.downloads, self.start, self.stop]
            inputs = [self.files, self.part, self.scale, self.strength, self.kind, self.place]
            self.start.click(self.on_start, inputs, outputs, concurrency_limit=None, **hidden)
            self.stop.click(self.on_stop, None, [self.stop], queue=False, **hidden)
            self.shown.input(self.on_show, [self.shown], [self.slider, self.faces], queue=False, **hidden)
            blocks.unload(self.on_leave)
        return blocks

    # ------------------------------------------------------------------ what is done
    def on_start(
        self,
        files: list[str] | None,
        faces: bool,
        scale: float,
        strength: float,
        kind: str,
        natural: float,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Enlarge the pictures, and show how far that is and what came of it."""
        if not files:
            yield {self.status: status(problem='Choose pictures first.')}
            return
        tab = self.open_tab(request.session_hash)
        settings = Settings(faces, scale, strength, None if kind == SAME else kind, natural)
        try:
            yield {
                self.status: status('Starts'),
                self.shown: gr.Dropdown(choices=[], value=None, visible=HIDDEN),
                self.slider: gr.ImageSlider(value=None, visible=HIDDEN),
                self.faces: gr.Gallery(value=None, visible=HIDDEN),
                self.downloads: gr.File(value=None, visible=HIDDEN),
                self.start: gr.Button(interactive=False),
                self.stop: gr.Button(interactive=True),
            }
            for event in tab.queue.run([Path(name) for name in files], settings):
                yield self.after(tab, event)
            yield self.end(tab, len(files))
        except Exception:
            yield self.end(tab, len(files), 'Something went wrong here; the terminal says what.')
            raise
        finally:
            self.leave_off(request.session_hash, tab)

    def after(self, tab: Tab, event: Event) -> Updates:
        """Return what changes on the page when something has happened."""
        if isinstance(event, Step):
            return {self.status: status(told(event), tab.done, event)}
        if isinstance(event, Waits):
            return {self.status: status('Waits until the pictures of another tab are done')}
        tab.done.append(event)
        changes: Updates = {self.status: status('', tab.done)}
        if isinstance(event, Failed):
            return changes
        if len(tab.results) > 1:
            return changes | self.lists(tab)
        return changes | self.lists(tab) | self.pictures(event)

    def end(self, tab: Tab, count: int, problem: str = '') -> Updates:
        """Return what changes on the page when nothing more will happen: of what came before an update can be lost."""
        changes: Updates = {
            self.status: status(summary(tab.done, count), tab.done, problem=problem),
            self.start: gr.Button(interactive=True),
            self.stop: gr.Button(interactive=False),
        }
        if tab.results:
            changes |= self.lists(tab) | self.pictures(tab.results[tab.shown - 1])
        return changes

    def lists(self, tab: Tab) -> Updates:
        """Return the results to download, and to choose from where there are several."""
        choices = [(f'{number}. {result.name}', number) for number, result in enumerate(tab.results, 1)]
        return {
            self.downloads: gr.File([str(result.path) for result in tab.results], visible=True),
            self.shown: gr.Dropdown(choices=choices, value=tab.shown, visible=len(choices) > 1 or HIDDEN),
        }

    def pictures(self, result: Result) -> Updates:
        """Return a result: before and after, and its faces."""
        return {self.slider: slider(result), self.faces: gallery(result)}

    def on_stop(self, request: gr.Request) -> Any:
        """Stop at the next tile."""
        if tab := self.tabs.get(request.session_hash):
            tab.queue.stop()
        return gr.Button(interactive=False)

    def on_show(self, number: int, request: gr.Request) -> Any:
        """Show another result."""
        tab = self.tabs.get(request.session_hash)
        if not tab or not number:
            return gr.skip()
        tab.shown = number
        return self.pictures(tab.results[number - 1])

    def on_leave(self, request: gr.Request) -> None:
        """Remove what a tab has that is closed or loaded again."""
        self.close_tab(request.session_hash)

    # ------------------------------------------------------------------ what is kept
    def open_tab(self, name: str) -> Tab:
        """Begin a queue of a tab; the results of its last one go."""
        self.close_tab(name)
        with self.changing:
            self.count += 1
            folder = self.folder / f'queue_{self.count}'
            tab = self.tabs[name] = Tab(Queue(self.dial, folder, self.megapixels, self.turn))
            self.running.append(tab)
        return tab

    def close_tab(self, name: str) -> None:
        """Stop what a tab runs and remove its results, now or, since they may be on their way to it, when it has."""
        with self.changing:
            tab = self.tabs.pop(name, None)
            is_running = tab in self.running
        if tab:
            tab.queue.stop() if is_running else tab.queue.close()

    def leave_off(self, name: str, tab: Tab) -> None:
        """Take note that nothing more is told to a tab; one that is closed has its results removed."""
        with self.changing:
            self.running.remove(tab)
            is_closed = self.tabs.get(name) is not tab
        if is_closed:
            tab.queue.close()

    def close(self) -> None:
        """Stop all that runs, and wait until it has."""
        with self.changing:
            tabs = [*self.tabs.values(), *self.running]
        for tab in tabs:
            tab.queue.close()


def slider(result: Result) -> gr.ImageSlider:
    """Return the slider of a result."""
    return gr.ImageSlider(
        (str(result.before), str(result.after)), label=f'Before and after: {result.name}', visible=True
    )


def gallery(result: Result) -> gr.Gallery:
    """Return the faces of a result, each beside what the network made of it."""
    shown = [(str(face.path), f'{number}. {face.side} px') for number, face in enumerate(result.faces, 1)]
    return gr.Gallery(shown, visible=bool(shown) or HIDDEN, selected_index=None)
