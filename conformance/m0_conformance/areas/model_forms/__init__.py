"""Model files of every form that must load: storage types, containers, architectures."""
