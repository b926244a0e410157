"""The page of `facesr web`: pictures enlarged in a browser on this machine, by the same readers, networks and writers.

`work` does what the page asks for and knows nothing of it; `words` says what came of it; `page` is what a person sees,
built with Gradio; `server` opens it on 127.0.0.1; `folder` has it leave nothing behind.
"""
