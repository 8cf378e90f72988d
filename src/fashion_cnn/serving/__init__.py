"""An exported model behind HTTP, and the page that anyone can try."""
