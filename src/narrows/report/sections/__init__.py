"""One module a section of the page: data in, sentences, tables and pictures out."""
