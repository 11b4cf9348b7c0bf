from .app import build_demo as build_demo
from .app import launch_demo as launch_demo
from .app import newest_model as newest_model
