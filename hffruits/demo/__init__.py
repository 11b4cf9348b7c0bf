"""The demo: a web page that names the fruit in photos, and learns new ones.

app, server, theme     the page; the server around it; colours and CSS
predict_tab, batch_tab, teach_tab, model_tab   a file for each tab
widgets                what the tabs share
examples, class_photos   photos to try, and of each class
uploads, upload_folder, multipart, feedback   what visitors send: checked, bounded, kept
link_preview           what a link to the page shows elsewhere
port                   which port it is served at
fallback_model         what is served while nothing is trained
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
