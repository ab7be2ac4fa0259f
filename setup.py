from pathlib import Path

from setuptools import find_packages, setup

# What a feature needs beyond a plain install, by the name of its extra.
FEATURES: dict[str, list[str]] = {
    "curl": ["pycurl>=7.45"],
    "fcm": ["PyJWT[crypto]>=2.9"],
    "google": ["google-auth[requests]>=2.40"],
    "metrics": ["prometheus-client>=0.21"],
}
ALL = sorted({requirement for needs in FEATURES.values() for requirement in needs})
DEV = [
    *ALL,
    "axe-core-python",
    "build",
    "Django",
    "firebase-admin",
    "Flask",
    "h2",
    "hypothesis",
    "mypy",
    "mypy-zope",
    "pytest>=9",
    "pytest-cov",
    "pytest-xdist",
    "setuptools>=77",  # Also pip's, to build the package: constraints.txt has its version.
    "PyYAML",
    "ruff",
    "schemathesis",
    "trustme",
    "standardwebhooks",
    "types-psutil",
    "types-PyYAML",
    "types-pyOpenSSL",
    "types-setuptools",
]

setup(
    name="node2dm_tw",
    version="0.1.0",
    description="A push gateway: UDP datagrams in, Android push notifications out",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Communications",
    ],
    python_requires=">=3.11",
    # "twisted.plugins" must be named: an editable install lists the plugin only then.
    packages=[*find_packages(include=["node2dm_tw", "node2dm_tw.*"]), "twisted.plugins"],
    package_dir={"": "."},
    package_data={"node2dm_tw": ["py.typed", "admin/page/*", "queues/*.sql"]},
    zip_safe=False,
    install_requires=[
        "Twisted>=26.4",
        "treq>=25.5",
        "service-identity>=24.2",
        "pyOpenSSL>=26",
        "attrs>=25.3",
        "Automat>=25.4",
        "psutil>=7.2",
    ],
    entry_points={
        "console_scripts": [
            "node2dm-push = node2dm_tw.cli.push:main",
            "node2dm-phone = node2dm_tw.emulator.phone.terminal:main",
        ]
    },
    extras_require={**FEATURES, "all": ALL, "dev": DEV},
)
