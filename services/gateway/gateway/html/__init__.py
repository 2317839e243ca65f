"""A model's streamed answer as safe HTML, only ever appended to (`renderer.HtmlRenderer`)."""
