"""Files of vendors over HTTP: asked for, tried again, resumed, kept in a bounded cache. No vendor is known here."""
