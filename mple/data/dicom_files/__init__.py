"""One DICOM file: what it says of its picture (`objects`, `layout`), its pixels (`pixels`, `codestreams`) and how it
wants them shown (`display`, `lookup`)."""
