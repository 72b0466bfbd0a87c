"""The main job, played on the sandbox: commits in, loaded drivers out."""
