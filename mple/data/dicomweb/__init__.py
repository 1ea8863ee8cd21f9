"""A hospital's PACS as a source: instances chosen by query and table, fetched once over DICOMweb, read as DICOM files.

`source` has the settings, `key_table` what the label table names, `search` which instances that is, `server` the calls
to the PACS, `multipart` the bodies of its answers, `cache` what is kept, `fetching` the whole.
"""
