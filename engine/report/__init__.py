"""A migration told to people who were not there: a document, and one page that shows it."""
