"""The provider node: a hospital's process. It morphs its images, answers what the plan allows, and keeps its key."""
