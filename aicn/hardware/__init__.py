"""This machine, as spec 1 wants it told; the only importer of cpuinfo and pynvml."""
