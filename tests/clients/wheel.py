"""Makes demo-1.0-py3-none-any.whl (PEP 427) in the working directory: a module and a command."""

import zipfile

INFO = "demo-1.0.dist-info"
FILES = {
    "demo.py": "def main():\n    print('demo runs')\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\ndemo = demo:main\n",
}

with zipfile.ZipFile("demo-1.0-py3-none-any.whl", "w") as wheel:
    for name, content in FILES.items():
        wheel.writestr(name, content)
    wheel.writestr(f"{INFO}/RECORD", "".join(f"{name},,\n" for name in FILES) + f"{INFO}/RECORD,,\n")
