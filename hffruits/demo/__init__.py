"""The web page of a model: the app, its server, its theme, a file for each tab."""
