"""google-cloud-storage as an agent's script uses it: list, upload, download, compare, delete."""

import sys

from google.cloud import storage

client = storage.Client()
bucket = client.bucket("prod-bucket")
content = bytes(range(256)) * 4096

blob = bucket.blob("from-python.bin")
blob.upload_from_string(content, content_type="application/octet-stream")
assert "from-python.bin" in [it.name for it in client.list_blobs("prod-bucket")]
assert bucket.blob("from-python.bin").download_as_bytes() == content
print("content matches", flush=True)

if "delete" in sys.argv[1:]:
    blob.delete()
    print("deleted", flush=True)
